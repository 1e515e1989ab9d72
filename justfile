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

# Our proxy against none, nginx, haproxy and Envoy; `just bench --quick` for a first look
bench *ARGS="--out BENCHMARKS.md":
    cargo run --release -p integration --bin bench -- {{ARGS}}

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
