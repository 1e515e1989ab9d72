# What CI runs, one recipe per step; `just check` is all of it but the slow ones.

# Everything a change has to pass
check: fmt clippy doc test deny sizes layers

fmt:
    cargo fmt --all -- --check

clippy:
    cargo clippy --workspace --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

test:
    cargo test --workspace

host := `rustc -vV | sed -n 's/^host: //p'`
sidecar := "target" / host / "release" / "linkerd-proxy"

# The sidecar as one static file that needs nothing of its host, for an image of its own; the C library
# has to be there as an archive (libc6-dev has it, glibc-static elsewhere)
release:
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release -p linkerd-proxy --target {{host}}

# That sidecar against none, nginx, haproxy and Envoy; `just bench --quick` for a first look
bench *ARGS="--out BENCHMARKS.md": release
    cargo run --release -p integration --bin bench -- --proxy {{sidecar}} {{ARGS}}

# Every fuzz target for a bounded time, in seconds
fuzz SECONDS="20":
    .ci/fuzz {{SECONDS}}

# Licences, banned crates, sources
deny:
    .ci/deny

# Length of files, module heads, orphans
sizes:
    .ci/sizes

# Who may know whom
layers:
    .ci/layers
