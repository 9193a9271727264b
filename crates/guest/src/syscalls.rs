//! Which system calls a plugin may make: what interpreters and compiled programs need to compute, to read files that were opened to them,
//! and to answer on a Unix socket. Everything else fails with `EPERM`.
//!
//! What that leaves out, among much else: sockets of every family but Unix, and `connect` in all; children (`fork`, `execve` in a child);
//! shared memory, so that the limit of memory holds; signals to others, also those that the kernel sends for a descriptor to an owner that
//! somebody set (`F_SETOWN`, `FIOASYNC`): a plugin has its parent's user id, and kernels before 6.12 have no Landlock scope for signals;
//! owners, modes, times and attributes of files, which Landlock does not know; namespaces, mounts, tracing, keys, `bpf`, `io_uring`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Allowed whatever the arguments.
const ANY: &[libc::c_long] = &[
    // files that are open, or that Landlock lets be opened
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    // memory
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // waiting
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // time, chance, and what it is
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getcpu,
    libc::SYS_get_mempolicy,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_capget,
    // its own signals and threads
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigpending,
    libc::SYS_sigaltstack,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // The launcher's own `execve` is the first; a later one changes nothing of what is put in place here.
    libc::SYS_execve,
    // the socket
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
];

/// The same under the names that x86-64 has besides.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_pause,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_getpgrp,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const AF_UNIX: u64 = 1;
const SOCK_TYPE: u64 = 0xf;
const SOCK_STREAM: u64 = 1;
const MAP_SHARED: u64 = 0x01;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_GROWSDOWN: u64 = 0x0100;
const CLONE_THREAD: u64 = 0x0001_0000;
/// Namespaces of its own: `CLONE_NEW*`.
const CLONE_NEW: u64 = 0x7e02_0000;
/// Commands of `fcntl`: another number for a descriptor, close-on-exec, status flags to read, locks of files that it may open. None that
/// names an owner, a signal, a lease, or a folder to be told about.
const FCNTL: [u64; 10] = [0, 1, 2, 3, 5, 6, 7, 36, 37, 38];
const F_DUPFD_CLOEXEC: u64 = 1_030;
const F_SETFL: u64 = 4;
/// Signals about a descriptor.
const O_ASYNC: u64 = 0x2000;
const SOL_SOCKET: u64 = 1;
/// Of a socket: its type, error, buffers, keep-alive, linger, peer's user, low-water mark, timeouts, whether it listens, protocol, domain. No filters, and
/// no descriptor of the peer's process.
const SOCKET_OPTIONS: [u64; 17] = [2, 3, 4, 6, 7, 8, 9, 13, 15, 16, 17, 18, 20, 21, 30, 38, 39];
const PR_SET_NAME: u64 = 15;
const PR_GET_NAME: u64 = 16;
/// Terminal or not, readable bytes, close-on-exec, non-blocking.
const IOCTLS: [u64; 6] = [0x5401, 0x5413, 0x541b, 0x5421, 0x5450, 0x5451];

type Error = seccompiler::Error;

fn is(argument: u8, op: Op, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, Len::Qword, op, value)?)
}

fn all(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(conditions)?)
}

/// Allowed with these arguments only.
fn with_arguments(pid: u64) -> Result<Vec<(libc::c_long, Vec<SeccompRule>)>, Error> {
    let unix_stream = || all(vec![is(0, Op::Eq, AF_UNIX)?, is(1, Op::MaskedEq(SOCK_TYPE), SOCK_STREAM)?]);
    let private = all(vec![is(3, Op::MaskedEq(MAP_SHARED | MAP_GROWSDOWN), 0)?])?;
    let of_a_file = all(vec![is(3, Op::MaskedEq(MAP_ANONYMOUS | MAP_GROWSDOWN), 0)?])?;
    let of = |argument: u8, values: &[u64]| -> Result<Vec<SeccompRule>, Error> {
        values.iter().map(|value| all(vec![is(argument, Op::Eq, *value)?])).collect()
    };
    let mut fcntl = of(1, &FCNTL)?;
    fcntl.push(all(vec![is(1, Op::Eq, F_DUPFD_CLOEXEC)?])?);
    fcntl.push(all(vec![is(1, Op::Eq, F_SETFL)?, is(2, Op::MaskedEq(O_ASYNC), 0)?])?);
    // Unix sockets know no options of another level, and say so. The kernel looks at 32 bits of the level only.
    let other_level = SeccompCondition::new(1, Len::Dword, Op::Ne, SOL_SOCKET)?;
    let option = |value: &u64| all(vec![is(1, Op::Eq, SOL_SOCKET)?, is(2, Op::Eq, *value)?]);
    let mut options = SOCKET_OPTIONS.iter().map(option).collect::<Result<Vec<_>, _>>()?;
    options.push(all(vec![other_level])?);
    let own_priority = [0, pid].map(|who| all(vec![is(0, Op::Eq, 0)?, is(1, Op::Eq, who)?]));
    let ioctls = IOCTLS.iter().map(|request| all(vec![is(1, Op::Eq, *request)?])).collect::<Result<_, _>>()?;
    Ok(vec![
        (libc::SYS_socket, vec![unix_stream()?]),
        (libc::SYS_socketpair, vec![unix_stream()?]),
        (libc::SYS_mmap, vec![private, of_a_file]),
        (libc::SYS_clone, vec![all(vec![is(0, Op::MaskedEq(CLONE_THREAD | CLONE_NEW), CLONE_THREAD)?])?]),
        (libc::SYS_ioctl, ioctls),
        (libc::SYS_fcntl, fcntl),
        (libc::SYS_getsockopt, options.clone()),
        (libc::SYS_setsockopt, options),
        (libc::SYS_getpgid, of(0, &[0, pid])?),
        (libc::SYS_getsid, of(0, &[0, pid])?),
        (libc::SYS_getpriority, own_priority.into_iter().collect::<Result<_, _>>()?),
        (libc::SYS_kill, vec![all(vec![is(0, Op::Eq, pid)?])?]),
        (libc::SYS_tgkill, vec![all(vec![is(0, Op::Eq, pid)?])?]),
        (libc::SYS_prctl, vec![all(vec![is(0, Op::Eq, PR_SET_NAME)?])?, all(vec![is(0, Op::Eq, PR_GET_NAME)?])?]),
        // Its own limits may be read, not set.
        (libc::SYS_prlimit64, vec![all(vec![is(0, Op::Eq, 0)?, is(2, Op::Eq, 0)?])?]),
    ])
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    then: SeccompAction,
) -> Result<BpfProgram, Error> {
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, then, arch)?.try_into()?)
}

/// Restricts this thread, and what it becomes.
pub(crate) fn restrict() -> Result<(), Error> {
    let pid = u64::from(std::process::id());
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    allowed.extend(ANY.iter().chain(OLDER).map(|call| (*call, Vec::new())));
    allowed.extend(with_arguments(pid)?);
    // Its arguments lie in memory, where no filter sees them. C libraries then take `clone`.
    allowed.insert(libc::SYS_clone3, Vec::new());
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let first = program(clone3, SeccompAction::Allow, SeccompAction::Errno(ENOSYS))?;
    let second = program(allowed, SeccompAction::Errno(EPERM), SeccompAction::Allow)?;
    // The first one forbids nothing that installing the second needs; the second forbids installing.
    seccompiler::apply_filter(&first)?;
    seccompiler::apply_filter(&second)
}
