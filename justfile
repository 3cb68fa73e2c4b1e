# Recipes are one line each; a longer one becomes a script.

# List the recipes.
default:
    @just --list

# Format everything.
fmt:
    cargo fmt

# What must be clean.
lint:
    cargo fmt --check && cargo clippy --all-targets -- -D warnings

# Every test; arguments go to cargo test.
test *ARGS:
    tests/run {{ARGS}}

# Documents and code agree; takes a second.
tidy:
    cargo test --test tidy

# Micro-benchmarks.
bench *ARGS:
    cargo bench {{ARGS}}

# Comparison with other proxies; about ten minutes on two quiet cores.
peers *ARGS:
    benches/peers/run.py {{ARGS}}

# Licences, duplicate versions, advisories (needs cargo-deny).
deny:
    cargo deny check

# Everything that must pass before a change lands.
check:
    .ci/run
