//! Waiting for commits of others: detecting new transactions without reading them in.

use super::error::LogResult;
use super::log::Log;
use super::payloads::End;
use super::record::{HEAD_LEN, Head, Kind};
use super::view::View;
use zrs_vfs::{VfsFile, Watch};

/// The progress of a wait: how much of an unfinished transaction has been scanned.
#[derive(Debug, Default)]
pub struct CommitWaiter {
    /// The end of the last transaction that was read in, as of the last scan.
    start: u64,
    /// The end of the last whole record after it.
    at: u64,
}

/// What a scan has found after the last transaction.
enum Found {
    /// A committed transaction.
    Committed,
    /// Only unfinished or failed transactions, up to this position.
    Unfinished(u64),
    /// Bytes that only [`Log::catch_up`] can interpret.
    Unreadable,
}

impl Log {
    /// Watch the file for changes; `None` if the system does not support it.
    pub fn watch(&self) -> Option<Box<dyn Watch>> {
        self.vfs.watch(&self.path).ok()
    }

    /// Whether [`catch_up`](Self::catch_up) would find committed transactions, or another file
    /// at the path. Unfinished and failed transactions do not count.
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
            match self.scan(&view, waiter.at, len)? {
                Found::Committed => return Ok(true),
                Found::Unfinished(at) => {
                    waiter.at = at;
                    return Ok(false);
                }
                // Others may have truncated the scanned bytes and written new ones.
                Found::Unreadable if waiter.at > end => waiter.at = end,
                Found::Unreadable => return Ok(len > view.seen_len),
            }
        }
    }

    fn scan(&self, view: &View, from: u64, len: u64) -> LogResult<Found> {
        let file: &dyn VfsFile = &*view.file;
        let mut at = from;
        while at < len {
            let mut bytes = [0; HEAD_LEN];
            let count = file.read_full_at(&mut bytes, at).map_err(self.io())?;
            // A transaction that was voted has zeros in the place of its end.
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
                // Its payload may be incomplete.
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
