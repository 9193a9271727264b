//! For this crate's tests: what `cairn-server plugin-launch` and `cairn plugin-launch` do.

fn main() -> std::process::ExitCode {
    guest::launch::main(std::env::args().skip(1))
}
