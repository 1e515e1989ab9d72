//! The sidecar binary: see the library `linkerd_proxy`.

/// Returns memory after bursts, and costs less per request than the system's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    linkerd_proxy::main()
}
