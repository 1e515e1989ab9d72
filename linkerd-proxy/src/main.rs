//! The sidecar binary: see the library `linkerd_proxy`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Returns memory after bursts, and costs less per request than the system's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const HELP: &str = "\
The sidecar proxy of the Gossamer service mesh. It takes no arguments: it is configured by the
environment variables LINKERD2_PROXY_*, as Linkerd's proxy is, which name at least where it listens
and where its control plane is. Whoever starts it sets them: an injector, or `meshctl local up`. A
variable that is missing or wrong is told of at the start. SIGTERM drains and ends it.

Options: --help, --version
";

fn main() -> ExitCode {
    // Anything else is left alone: scripts that start Linkerd's proxy may pass arguments.
    match std::env::args_os()
        .nth(1)
        .as_ref()
        .and_then(|it| it.to_str())
    {
        Some("--help" | "-h") => print(HELP),
        Some("--version" | "-V") => {
            print(concat!("linkerd-proxy ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        _ => linkerd_proxy::main(),
    }
}

fn print(text: &str) -> ExitCode {
    // Nothing can be done about a closed terminal.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
