//! The transactions that a primary sends, and their bytes.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::convert::{Id, dialect, layout, missing, tid_bytes};
use super::errors::stream_error;
use super::storage::FileStorageBase;
use zrs_ids::Tid;
use zrs_replication::replica::{self, Blobs, StreamHandle};
use zrs_storage::{BlobDirectory, OpenFile, SeekHints};
use zrs_vfs::{Held, Identity, OsVfs};

/// The transactions of a storage that may be sent.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct Feed(pub(super) Arc<replica::Feed>);

#[pymethods]
impl Feed {
    #[new]
    #[pyo3(signature = (
        path, tid, end = None, blob_dir = None, blob_layout = "bushy", missing_blobs = "stop",
        storage = None, held = None, *, refuse_unverified = false
    ))]
    #[expect(clippy::too_many_arguments, reason = "options are keywords in Python")]
    fn new(
        path: PathBuf,
        tid: Id<Tid>,
        end: Option<u64>,
        blob_dir: Option<PathBuf>,
        blob_layout: &str,
        missing_blobs: &str,
        storage: Option<&Bound<'_, FileStorageBase>>,
        held: Option<Py<PyAny>>,
        refuse_unverified: bool,
    ) -> PyResult<Self> {
        let open_file = match (storage, held) {
            (Some(storage), _) => Some(OpenFile::new(&storage.get().opened()?.storage)),
            (None, Some(held)) => Some(OpenFile::from_fn(move || held_file(&held))),
            (None, None) => None,
        };
        let seek_hints = match storage {
            Some(storage) => SeekHints::new(&storage.get().opened()?.storage),
            None => SeekHints::saved(Arc::new(OsVfs), &path),
        };
        let mut feed = replica::Feed::new(path, tid.0, end).with_seek_hints(seek_hints);
        if refuse_unverified {
            feed = feed.refusing_unverified();
        }
        if let Some(open_file) = open_file {
            feed = feed.with_open_file(open_file);
        }
        if let Some(blob_dir) = blob_dir {
            let directory = BlobDirectory::new(blob_dir, layout(blob_layout)?);
            feed = feed.with_blobs(Blobs::new(directory, missing(missing_blobs)?));
        }
        Ok(Self(Arc::new(feed)))
    }

    #[getter]
    fn ships_blobs(&self) -> bool {
        self.0.ships_blobs()
    }

    #[getter]
    fn tid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        tid_bytes(py, py.detach(|| self.0.published().tid))
    }

    #[getter]
    fn commits(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.0.commits())
    }

    #[pyo3(signature = (tid, end = None))]
    fn publish(&self, py: Python<'_>, tid: Id<Tid>, end: Option<u64>) {
        py.detach(|| self.0.publish(tid.0, end));
    }

    fn is_displaced(&self, py: Python<'_>) -> bool {
        py.detach(|| {
            self.0.check_place(&OsVfs);
            self.0.is_displaced()
        })
    }

    fn finish(&self, py: Python<'_>) {
        py.detach(|| self.0.finish());
    }
}

/// The file that a storage written in Python has open; `None` if it is unknown.
fn held_file(held: &Py<PyAny>) -> Option<Held> {
    let asked: PyResult<Option<(u64, u64, bool)>> =
        Python::try_attach(|py| held.call0(py)?.extract(py))?;
    let (device, inode, is_moving) = asked.ok()??;
    Some(Held {
        identity: Identity { device, inode },
        is_moving,
    })
}

/// The bytes that a primary sends to one secondary.
#[pyclass(frozen, module = "zc.zrs._zrs")]
pub(super) struct TransactionStream {
    stream: Mutex<replica::TransactionStream>,
    handle: StreamHandle,
}

#[pymethods]
impl TransactionStream {
    #[new]
    #[pyo3(signature = (feed, start, wire_pickles = "python3", peer = ""))]
    fn new(feed: &Feed, start: Id<Tid>, wire_pickles: &str, peer: &str) -> PyResult<Self> {
        let dialect = dialect(wire_pickles)?;
        let feed = Arc::clone(&feed.0);
        let vfs = Arc::new(OsVfs);
        let stream = replica::TransactionStream::new(feed, vfs, peer.to_owned(), start.0, dialect);
        Ok(Self {
            handle: stream.handle(),
            stream: Mutex::new(stream),
        })
    }

    fn next_chunk<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let chunk = py.detach(|| self.stream.lock().next_chunk());
        let chunk = chunk.map_err(|error| stream_error(py, &error))?;
        Ok(chunk.map(|chunk| PyBytes::new(py, &chunk)))
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.handle.stop());
    }

    fn capability_offered(&self, py: Python<'_>) {
        py.detach(|| self.handle.capability_offered());
    }

    fn list(&self, py: Python<'_>, after: Id<Tid>) {
        py.detach(|| self.handle.list(after.0));
    }
}
