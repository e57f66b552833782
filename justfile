# What CI runs, piece by piece.

default: fmt lint test

# Format everything.
fmt:
    cargo fmt --all

# Warnings are errors, as in CI.
lint:
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Every test; those that need recorded material say when they skip.
test:
    cargo test --workspace

# The simulator's scenarios with more seeds than CI takes.
sim rounds="512":
    ROUNDS={{rounds}} cargo test --release -p tidings-sim

# One fuzz target for a minute (needs cargo-fuzz and a nightly toolchain).
fuzz target:
    cd fuzz && cargo +nightly fuzz run {{target}} -- -max_total_time=60

# A workload of docs/bench.md: floor, membership, dissemination, point-to-point.
bench workload="floor" *args:
    cargo run --release -p tidings-bench -- {{workload}} {{args}}

# A network on this machine.
demo *args:
    cargo run --release -- demo {{args}}

# Exactly what CI runs.
ci:
    .ci/run
