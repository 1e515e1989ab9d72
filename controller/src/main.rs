//! The control plane binary: an allocator, and the library's main.

use std::process::ExitCode;

/// Smaller and quicker than the system's for many short-lived messages.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    mesh_controller::main_with_args(std::env::args_os())
}
