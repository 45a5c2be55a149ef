//! Waiting for what others commit: whether there is something new, without taking it in.

use super::error::LogResult;
use super::log::Log;
use super::payloads::End;
use super::record::{HEAD_LEN, Head, Kind};
use super::view::View;
use crate::vfs::{VfsFile, Watch};

/// Remembers how far an unfinished transaction was looked through.
#[derive(Debug, Default)]
pub struct CommitWaiter {
    /// The end of what was caught up with, at that time.
    start: u64,
    /// Up to where there are whole records after it.
    at: u64,
}

/// What lies after the last transaction.
enum Found {
    Committed,
    /// Nothing that is finished, up to here.
    Unfinished(u64),
    /// What can be judged only by reading on.
    Unreadable,
}

impl Log {
    /// Be told of what happens to the file from now on; `None` where the system cannot.
    pub fn watch(&self) -> Option<Box<dyn Watch>> {
        self.vfs.watch(&self.path).ok()
    }

    /// Whether others have committed what [`catch_up`](Self::catch_up) would read, or put
    /// another file in the place of this one. What is not finished, and what failed, do not
    /// count.
    pub fn is_behind(&self, waiter: &mut CommitWaiter) -> LogResult<bool> {
        let view = self.view()?;
        if self.is_replaced(&view) {
            return Ok(true);
        }
        let (end, len) = (view.index.end, view.file.metadata().map_err(self.io())?.len);
        if waiter.start != end || waiter.at > len {
            (waiter.start, waiter.at) = (end, end);
        }
        loop {
            match self.look(&view, waiter.at, len)? {
                Found::Committed => return Ok(true),
                Found::Unfinished(at) => {
                    waiter.at = at;
                    return Ok(false);
                }
                // Others may have cut off what we saw, and written something else.
                Found::Unreadable if waiter.at > end => waiter.at = end,
                Found::Unreadable => return Ok(len > view.looked),
            }
        }
    }

    fn look(&self, view: &View, from: u64, len: u64) -> LogResult<Found> {
        let file: &dyn VfsFile = &*view.file;
        let mut at = from;
        while at < len {
            let mut bytes = [0; HEAD_LEN];
            let count = file.read_full_at(&mut bytes, at).map_err(self.io())?;
            // Who votes leaves room for the end.
            if count < HEAD_LEN || bytes == [0; HEAD_LEN] {
                break;
            }
            let Ok(head) = Head::parse(&bytes, at) else {
                return Ok(Found::Unreadable);
            };
            if head.end(at) > len {
                break;
            }
            if head.kind == Kind::End {
                // Whose payload may be there in part only.
                let Ok((_, payload)) = self.record(file, at, None) else {
                    break;
                };
                if End::parse(&payload).is_some_and(|end| end.committed) {
                    return Ok(Found::Committed);
                }
            }
            at = head.end(at);
        }
        Ok(Found::Unfinished(at))
    }
}
