//! Which Python's opcodes a header is written in.

/// In whose manner headers are written. Readers accept both, except that a zc.zrs on
/// Python 3 cannot read Python 2's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// zc.zrs 2.x on Python 2: short byte strings.
    Python2,
    /// zc.zrs 3.x on Python 3: text as Unicode, bytes as `_codecs.encode`.
    #[default]
    Python3,
}
