//! The tokio runtime of this process: made when first needed, one for each process id.
//!
//! After a fork the child has none of the runtime's threads, so it makes a runtime of its
//! own and never touches the inherited one, not even to drop it.

use std::io;
use std::time::Duration;

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// Network work is light, storage work runs on threads of its own.
const WORKERS: usize = 2;
/// One blocking thread serves each connection.
const BLOCKING_THREADS: usize = 8192;
/// How long the threads may take to end at exit.
const EXIT_DEADLINE: Duration = Duration::from_secs(2);

struct Process {
    pid: u32,
    runtime: Runtime,
    exit: CancellationToken,
}

static PROCESS: Lazy<Mutex<Option<Process>>> = Lazy::new(Mutex::default);

/// What a server or client needs of the runtime.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) handle: Handle,
    /// Cancelled at exit.
    pub(super) exit: CancellationToken,
    pid: u32,
}

impl Host {
    /// Whether this process is the one whose threads do the work.
    pub(super) fn is_current(&self) -> bool {
        self.pid == std::process::id()
    }
}

/// The runtime of this process.
pub(super) fn host() -> io::Result<Host> {
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
    Ok(Host {
        handle: process.runtime.handle().clone(),
        exit: process.exit.clone(),
        pid,
    })
}

/// Waits, on a thread that is not the runtime's, for a task.
pub(super) fn block_on<T>(
    host: &Host,
    task: tokio::task::JoinHandle<T>,
) -> Result<T, tokio::task::JoinError> {
    host.handle.block_on(task)
}

fn build() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("zrs")
        .enable_all()
        .build()
}

/// Ends every server, client and thread, as the process is about to exit.
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
