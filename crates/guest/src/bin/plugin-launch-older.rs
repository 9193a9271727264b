//! For this crate's tests: `plugin-launch` as it confines where the kernel's Landlock has no scopes.

fn main() -> std::process::ExitCode {
    guest::launch::main_of_an_older_kernel(std::env::args().skip(1))
}
