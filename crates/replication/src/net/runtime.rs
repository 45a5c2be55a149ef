//! The tokio runtime of this process: created on first use, one for each process id.
//!
//! A forked child has none of the runtime's threads. It creates its own runtime and never
//! uses the inherited one, not even to drop it.

use std::io;
use std::time::Duration;

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// Network tasks need little CPU time. Storage work runs on the blocking threads.
const WORKERS: usize = 2;
/// Each connection uses one blocking thread.
const BLOCKING_THREADS: usize = 8192;
/// Maximum time to wait for the threads at exit.
const EXIT_DEADLINE: Duration = Duration::from_secs(2);

struct Process {
    pid: u32,
    runtime: Runtime,
    exit: CancellationToken,
}

static PROCESS: Lazy<Mutex<Option<Process>>> = Lazy::new(Mutex::default);

/// A handle to the runtime, for servers and clients.
#[derive(Clone)]
pub(super) struct RuntimeHandle {
    pub(super) tokio: Handle,
    /// Cancelled at exit.
    pub(super) exit: CancellationToken,
    pid: u32,
}

impl RuntimeHandle {
    /// Whether the runtime's threads belong to this process; `false` in a forked child.
    pub(super) fn is_current(&self) -> bool {
        self.pid == std::process::id()
    }
}

/// The runtime of this process.
pub(super) fn current() -> io::Result<RuntimeHandle> {
    let mut current = PROCESS.lock();
    let pid = std::process::id();
    if let Some(inherited) = current.take_if(|process| process.pid != pid) {
        std::mem::forget(inherited);
    }
    let process = match &mut *current {
        Some(process) => process,
        None => current.insert(Process {
            pid,
            runtime: build()?,
            exit: CancellationToken::new(),
        }),
    };
    Ok(RuntimeHandle {
        tokio: process.runtime.handle().clone(),
        exit: process.exit.clone(),
        pid,
    })
}

/// Waits for a task. Must be called from a thread outside the runtime.
pub(super) fn block_on<T>(
    runtime: &RuntimeHandle,
    task: tokio::task::JoinHandle<T>,
) -> Result<T, tokio::task::JoinError> {
    runtime.tokio.block_on(task)
}

fn build() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("zrs")
        .enable_all()
        .build()
}

/// Stops every server, client and thread. Called when the process is about to exit.
pub fn shut_down() {
    let process = PROCESS.lock().take();
    match process {
        Some(process) if process.pid == std::process::id() => {
            process.exit.cancel();
            process.runtime.shutdown_timeout(EXIT_DEADLINE);
        }
        inherited => std::mem::forget(inherited),
    }
}
