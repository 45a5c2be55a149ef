//! The Python version for whose pickles headers are written.

/// The dialect in which headers are written. Readers accept both, except that a zc.zrs on Python
/// 3 cannot read that of Python 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// zc.zrs 2.x on Python 2: short byte strings.
    Python2,
    /// zc.zrs 3.x on Python 3: text as Unicode, bytes as `_codecs.encode`.
    #[default]
    Python3,
}
