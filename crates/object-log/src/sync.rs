//! Syncing the file once for several threads.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use zrs_vfs::VfsFile;

/// Syncs a file for all threads that wait for it.
pub(super) struct Syncer {
    file: Arc<dyn VfsFile>,
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// The end of the written bytes.
    written: u64,
    /// The end of the durable bytes.
    synced: u64,
    /// Whether a thread is syncing.
    busy: bool,
    /// The error of a failed sync, after which it is unknown what is durable.
    failed: Option<(io::ErrorKind, Option<i32>)>,
}

impl Syncer {
    pub(super) fn new(file: Arc<dyn VfsFile>) -> Self {
        Self {
            file,
            state: Mutex::default(),
            done: Condvar::new(),
        }
    }

    /// Note that the file was written up to `end`.
    pub(super) fn written(&self, end: u64) {
        let mut state = self.state.lock();
        state.written = state.written.max(end);
    }

    /// The position up to which this process has synced the file.
    pub(super) fn synced(&self) -> u64 {
        self.state.lock().synced
    }

    /// Wait until the file is durable up to `end`. One of the waiting threads syncs everything
    /// that was written by then.
    pub(super) fn wait(&self, end: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        loop {
            if let Some(failure) = state.failed {
                return Err(sync_error(failure));
            }
            if state.synced >= end {
                return Ok(());
            }
            if state.busy {
                self.done.wait(&mut state);
                continue;
            }
            state.busy = true;
            let target = state.written.max(end);
            drop(state);
            let result = self.file.sync_data();
            state = self.state.lock();
            state.busy = false;
            match result {
                Ok(()) => state.synced = state.synced.max(target),
                Err(error) => state.failed = Some((error.kind(), error.raw_os_error())),
            }
            self.done.notify_all();
        }
    }
}

/// The error of a failed sync, for each thread that waits.
fn sync_error((kind, number): (io::ErrorKind, Option<i32>)) -> io::Error {
    number.map_or_else(|| kind.into(), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;
    use zrs_vfs::sim::{Extent, Fault, SimVfs};
    use zrs_vfs::{Metadata, Vfs};

    #[test]
    fn a_failed_sync_is_reported_to_every_later_wait() {
        let vfs = SimVfs::new(0);
        let syncer = Syncer::new(vfs.create(Path::new("log")).unwrap());
        syncer.written(10);
        syncer.wait(10).unwrap();
        assert_eq!(syncer.synced(), 10);
        vfs.fail(Fault {
            call: vfs.calls(),
            errno: 5,
            extent: Extent::Once,
            short: false,
        });
        for _ in 0..2 {
            assert_eq!(syncer.wait(11).unwrap_err().raw_os_error(), Some(5));
        }
    }

    /// A file whose first sync lasts until the test ends it.
    struct SlowFile {
        syncs: AtomicUsize,
        begun: Sender<()>,
        end: Mutex<Receiver<()>>,
    }

    impl VfsFile for SlowFile {
        fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
            Ok(0)
        }

        fn metadata(&self) -> io::Result<Metadata> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            if self.syncs.fetch_add(1, Ordering::Relaxed) == 0 {
                self.begun.send(()).unwrap();
                self.end.lock().recv().unwrap();
            }
            Ok(())
        }
    }

    /// Eight threads that commit while another one syncs need only one more sync.
    #[test]
    fn threads_that_wait_at_the_same_time_share_a_sync() {
        let ((begun, has_begun), (end, may_end)) = (channel(), channel());
        let file = Arc::new(SlowFile {
            syncs: AtomicUsize::new(0),
            begun,
            end: Mutex::new(may_end),
        });
        let syncer = Syncer::new(Arc::clone(&file) as Arc<dyn VfsFile>);
        syncer.written(1);
        thread::scope(|scope| {
            scope.spawn(|| syncer.wait(1).unwrap());
            has_begun.recv().unwrap();
            syncer.written(9);
            for end in 2..=9 {
                let syncer = &syncer;
                scope.spawn(move || syncer.wait(end).unwrap());
            }
            end.send(()).unwrap();
        });
        assert_eq!(syncer.synced(), 9);
        assert_eq!(file.syncs.load(Ordering::Relaxed), 2);
    }
}
