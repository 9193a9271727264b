"""A plugin that does what it must not, one thing per mode."""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from concurrent import futures

import grpc
import plugin_pb2 as pb
import plugin_pb2_grpc as rpc

OWN = "hostile:global:hostile.attempt:"
LIBC = ctypes.CDLL(None, use_errno=True)


def page(scope="s", node=OWN + "x", properties="{}"):
    return pb.FromPlugin(page=pb.Page(scope=scope, nodes=[pb.Node(id=node, properties_json=properties)]))


def done(verdict=pb.VERDICT_COMPLETE, scope="s", reason="because", since=False, checkpoint=b""):
    what = pb.ScopeDone(scope=scope, verdict=verdict, reason=reason, since_checkpoint=since, checkpoint=checkpoint)
    return pb.FromPlugin(scope_done=what)


def gone(scope="s", node=OWN + "x"):
    return pb.FromPlugin(gone=pb.Gone(scope=scope, nodes=[node]))


def unchanged(scope="s", checkpoint=b""):
    return pb.FromPlugin(unchanged=pb.Unchanged(scope=scope, checkpoint=checkpoint))


def call(start, path="/allowed", credential=None, origin=None, headers=(), method="GET", scope="s"):
    http = pb.HttpCall(origin=origin or json.loads(start.settings_json)["url"], method=method, path=path)
    http.headers.extend(pb.Pair(name=name, value=value) for name, value in headers)
    credential = start.credential_id if credential is None else credential
    return pb.FromPlugin(call=pb.Call(scope=scope, credential_id=credential, http=http))


def syscall(number, *arguments):
    result = LIBC.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def connect(family, address):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.connect(address)


def signal_by_descriptor(parent, how):
    """Has the kernel send SIGKILL to the parent when its own socket can be read: every step has to be refused."""
    near, far = socket.socketpair()
    steps = {
        "owner": lambda: fcntl.fcntl(near, fcntl.F_SETOWN, parent),
        "owner_ex": lambda: fcntl.fcntl(near, 15, struct.pack("ii", 1, parent)),
        "signal": lambda: fcntl.fcntl(near, 10, signal.SIGKILL),
        "async": lambda: fcntl.fcntl(near, fcntl.F_SETFL, fcntl.fcntl(near, fcntl.F_GETFL) | os.O_ASYNC),
        # The kernel reads 32 bits of a command.
        "owner_wide": lambda: syscall(72, near.fileno(), (1 << 32) | fcntl.F_SETOWN, parent),
        "ioctl_owner": lambda: fcntl.ioctl(near, 0x8901, struct.pack("i", parent)),
        "ioctl_group": lambda: fcntl.ioctl(near, 0x8902, struct.pack("i", parent)),
        "ioctl_async": lambda: fcntl.ioctl(near, 0x5452, struct.pack("i", 1)),
    }
    if how in steps:
        return steps[how]()
    refused = None
    for deed in steps.values():
        try:
            deed()
        except OSError as why:
            refused = why
    far.send(b"x")
    raise refused


def attempts(victim, folder):
    """Name and deed of everything that has to fail."""
    parent = os.getppid()
    room = ctypes.create_string_buffer(256)
    by_descriptor = ["owner", "owner_ex", "signal", "async", "owner_wide", "ioctl_owner", "ioctl_group", "ioctl_async", "all"]
    return {
        **{f"descriptor_{how}": lambda how=how: signal_by_descriptor(parent, how) for how in by_descriptor},
        "lease": lambda: fcntl.fcntl(0, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        "notify": lambda: fcntl.fcntl(0, fcntl.F_NOTIFY, 1),
        "pipe_size": lambda: fcntl.fcntl(0, 1031, 1 << 20),
        "type_on_terminal": lambda: fcntl.ioctl(0, 0x5412, b"x"),
        "own_terminal": lambda: fcntl.ioctl(0, 0x540E, 0),
        "terminal_group": lambda: fcntl.ioctl(0, 0x5410, struct.pack("i", parent)),
        "death_signal": lambda: syscall(157, 1, 0, 0, 0, 0),
        "dumpable": lambda: syscall(157, 4, 1, 0, 0, 0),
        "subreaper": lambda: syscall(157, 36, 1, 0, 0, 0),
        "ptracer": lambda: syscall(157, 0x59616D61, -1, 0, 0, 0),
        "mq_notify": lambda: syscall(244, 0, room),
        "mq_open": lambda: syscall(240, b"x", 0o102, 0o600, 0),
        "timer_create": lambda: syscall(222, 0, room, room),
        "pidfd_open": lambda: syscall(434, parent, 0),
        "pidfd_of_itself": lambda: syscall(434, os.getpid(), 0),
        "pidfd_send_signal": lambda: syscall(424, 0, 0, 0, 0),
        "pidfd_getfd": lambda: syscall(438, 0, 0, 0),
        "pidfd_of_peer": lambda: socket.socketpair()[0].getsockopt(socket.SOL_SOCKET, 77, 4),
        "pidfd_of_peer_wide": lambda: syscall(55, socket.socket(socket.AF_UNIX).fileno(), (1 << 32) | 1, 77, room, room),
        "filter_on_socket": lambda: socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, 26, b"x" * 16),
        "process_vm_writev": lambda: syscall(311, parent, 0, 0, 0, 0, 0),
        "process_madvise": lambda: syscall(440, 0, 0, 0, 0, 0),
        "kcmp": lambda: syscall(312, parent, parent, 0, 0, 0),
        "queue_signal": lambda: syscall(129, parent, 0, room),
        "queue_signal_to_thread": lambda: syscall(297, parent, parent, 0, room),
        "tgkill_parent": lambda: syscall(234, parent, parent, 0),
        "tkill_parent": lambda: syscall(200, parent, 0),
        "kill_parents_group": lambda: os.kill(-parent, 0),
        "kill_own_group": lambda: os.kill(0, 0),
        "priority_of_parent": lambda: os.setpriority(os.PRIO_PROCESS, parent, 10),
        "read_priority_of_parent": lambda: os.getpriority(os.PRIO_PROCESS, parent),
        "priority_of_user": lambda: os.getpriority(os.PRIO_USER, 0),
        "group_of_parent": lambda: os.getpgid(parent),
        "session_of_parent": lambda: os.getsid(parent),
        "affinity_of_parent": lambda: os.sched_setaffinity(parent, {0}),
        "scheduler_of_parent": lambda: syscall(144, parent, 0, room),
        "attributes_of_parent": lambda: syscall(314, parent, room, 0),
        "io_priority_of_parent": lambda: syscall(251, 1, parent, 0),
        "set_limit_of_parent": lambda: syscall(302, parent, 7, room, 0),
        "pages_of_parent": lambda: syscall(279, parent, 0, 0, 0, 0, 0),
        "migrate_parent": lambda: syscall(256, parent, 0, 0, 0),
        "robust_list_of_parent": lambda: syscall(274, parent, room, room),
        "join_group": lambda: os.setpgid(0, parent),
        "new_session": os.setsid,
        "perf": lambda: syscall(298, room, parent, -1, -1, 0),
        "userfaultfd": lambda: syscall(323, 0),
        "setns": lambda: syscall(308, 0, 0),
        "tcp": lambda: connect(socket.AF_INET, ("127.0.0.1", 9)),
        "tcp6": lambda: connect(socket.AF_INET6, ("::1", 9)),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "raw": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
        "unix_datagram": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        "unix_connect": lambda: connect(socket.AF_UNIX, victim + ".sock"),
        "unix_abstract": lambda: connect(socket.AF_UNIX, "\0x"),
        "io_uring": lambda: syscall(425, 8, ctypes.create_string_buffer(256)),
        "shadow": lambda: open("/etc/shadow").read(),
        "passwd": lambda: open("/etc/passwd").read(),
        "data_folder": lambda: open(victim).read(),
        "list_root": lambda: os.listdir("/"),
        "list_data_folder": lambda: os.listdir(os.path.dirname(victim)),
        "write_own_folder": lambda: open(os.path.join(folder, "x"), "w"),
        "write_tmp": lambda: open("/tmp/hostile", "w"),
        "write_cwd": lambda: open("x", "w"),
        "link_out": lambda: os.symlink(victim, "x"),
        "chmod": lambda: os.chmod(victim, 0o777),
        "chown": lambda: os.chown(victim, 1, 1),
        "utime": lambda: os.utime(victim),
        "truncate": lambda: os.truncate(victim, 0),
        "rename": lambda: os.rename(victim, victim + "2"),
        "unlink": lambda: os.unlink(victim),
        "xattr": lambda: os.setxattr(victim, "user.x", b"x"),
        "proc_self": lambda: open("/proc/self/maps").read(),
        "proc_parent": lambda: open(f"/proc/{parent}/environ", "rb").read(),
        "memory_of_parent": lambda: open(f"/proc/{parent}/mem", "rb").read(1),
        "fork": os.fork,
        "vfork": lambda: syscall(58),
        "clone3": lambda: syscall(435, ctypes.create_string_buffer(88), 88),
        "system": lambda: 1 / 0 if os.system("true") else None,
        "kill_parent": lambda: os.kill(parent, 0),
        "kill_all": lambda: os.kill(-1, 0),
        "ptrace": lambda: syscall(101, 16, parent, 0, 0),
        "process_vm_readv": lambda: syscall(310, parent, 0, 0, 0, 0, 0),
        "memfd": lambda: os.memfd_create("x"),
        "shared_memory": lambda: syscall(9, 0, 4096, 3, 0x21, -1, 0),
        "growsdown": lambda: syscall(9, 0, 4096, 3, 0x122, -1, 0),
        "shmget": lambda: syscall(29, 0, 4096, 0o1600),
        "unshare": lambda: syscall(272, 0x10000000),
        "mount": lambda: syscall(165, b"none", b"/tmp", b"tmpfs", 0, 0),
        "chroot": lambda: os.chroot("/tmp"),
        "setuid": lambda: os.setuid(0),
        "bpf": lambda: syscall(321, 0, 0, 0),
        "keyctl": lambda: syscall(250, 0, 0, 0),
        "seccomp": lambda: syscall(317, 0, 0, 0),
        "raise_limit": lambda: __import__("resource").setrlimit(
            __import__("resource").RLIMIT_DATA, (1 << 40, 1 << 40)
        ),
        "limit_of_parent": lambda: syscall(302, parent, 7, 0, ctypes.create_string_buffer(16)),
    }


def needed(folder):
    """What plugins do with descriptors, and may."""
    near, far = socket.socketpair()
    os.set_inheritable(near.fileno(), True)
    near.setblocking(False)
    with open(os.path.join(folder, "plugin.py")) as file:
        fcntl.fcntl(file, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        copies = [fcntl.fcntl(file, how, 64) for how in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC)]
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    pid = struct.unpack("iii", far.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return [len(copies), near.getblocking(), pid == os.getpid(), os.getpgid(0) == os.getpid(), os.getpriority(0, 0) >= -20]


def probe(victim):
    folder = os.path.dirname(os.path.abspath(__file__))
    out = {}
    for name, deed in attempts(victim, folder).items():
        try:
            out[name] = f"DONE: {deed()!r}"[:80]
        except Exception as why:
            out[name] = type(why).__name__
    out["needed"] = needed(folder)
    # The group may not hold anything that was inherited: only its own pipes, socket and wakeups.
    out["environment"] = ",".join(sorted(os.environ))
    out["inherited"] = INHERITED
    return out


def spin():
    while True:
        pass


class Hostile(rpc.PluginServicer):
    def Describe(self, request, context):
        return pb.Description(name="hostile", version="1")

    def Validate(self, request, context):
        if json.loads(request.settings_json).get("mode") == "invalid":
            return pb.ValidateReply(setting="mode", problem="not\x1b[31mthis")
        return pb.ValidateReply()

    def Discover(self, requests, context):
        start = next(requests).start
        settings = json.loads(start.settings_json)
        mode, victim = settings["mode"], settings.get("victim", "")
        if mode == "probe":
            yield page(properties=json.dumps(probe(victim)))
        elif mode == "memory":
            hoard = []
            while True:
                hoard.append(bytearray(8 << 20))
        elif mode == "threads":
            threading.stack_size(64 << 10)
            while True:
                threading.Thread(target=signal.pause, daemon=True).start()
        elif mode == "processor":
            spin()
        elif mode == "silent":
            threading.Event().wait()
        elif mode == "endless":
            while True:
                time.sleep(0.05)
                yield pb.FromPlugin(progress=pb.Progress(message="still at work\x1b[31m"))
        elif mode == "flood":
            while True:
                yield pb.FromPlugin(progress=pb.Progress(message="x"))
        elif mode == "huge":
            yield page(properties="x" * (24 << 20))
        elif mode == "nested":
            yield page(properties="{\"a\":" + "[" * 200_000)
        elif mode == "foreign_node":
            yield page(node="aws:us-east-1:aws.ec2.instance:i-1")
        elif mode == "foreign_scope":
            yield done(scope="aws:123456789012:us-east-1:ec2.instances")
        elif mode == "complete_without_asking":
            yield done()
        elif mode == "null_result":
            yield call(start, credential="")
            next(requests)
            yield done()
        elif mode == "off_manifest":
            answers = []
            for odd in (
                {"path": "/admin"},
                {"method": "POST"},
                {"origin": "https://169.254.169.254"},
                {"headers": [("x-http-method-override", "DELETE")]},
                {"headers": [("authorization", "x")]},
                {"path": "/allowed/../admin"},
            ):
                yield call(start, credential="", **odd)
                answers.append(next(requests).reply.refusal.code)
            yield page(properties=json.dumps({"answers": answers}))
            yield done()
        elif mode == "other_credential":
            yield call(start, credential=victim)
            answer = next(requests).reply.refusal
            yield page(properties=json.dumps({"code": answer.code, "message": answer.message}))
            yield done()
        elif mode == "with_credential":
            yield call(start)
            answer = next(requests).reply
            yield page(properties=json.dumps({"answer": str(answer), "start": str(start)}))
            yield done()
        elif mode == "many_calls":
            codes = []
            for _ in range(25):
                yield call(start, credential="")
                answer = next(requests).reply
                codes.append(answer.refusal.code or str(answer.reply.status))
            yield page(properties=json.dumps({"codes": codes}))
            yield done()
        elif mode == "after_verdict":
            yield done(pb.VERDICT_PARTIAL)
            yield page()
        elif mode == "unchanged":
            yield page()
            yield unchanged()
        elif mode == "gone":
            yield gone()
        elif mode == "difference":
            yield done(since=True)
        elif mode == "other_scope":
            yield unchanged(scope="t")
        elif mode == "gone_and_unchanged":
            yield gone()
            yield unchanged()
        elif mode == "gone_and_whole":
            yield gone()
            yield done()
        elif mode == "absent_since":
            yield done(pb.VERDICT_ABSENT, since=True)
        elif mode == "foreign_gone":
            yield gone(node="aws:us-east-1:aws.ec2.instance:i-1")
        elif mode == "large_checkpoint":
            yield done(since=True, checkpoint=b"x" * ((64 << 10) + 1))
        elif mode == "unasked":
            yield unchanged()
        elif mode == "asked":
            yield call(start, credential="")
            next(requests)
            yield page()
            yield gone(node=OWN + "y")
            yield done(since=True, checkpoint=start.checkpoints[0].checkpoint + b"!")
        elif mode == "start_over":
            if start.checkpoints:
                yield call(start, credential="")
                next(requests)
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "older\x1b than a week")
            yield page()
            yield done(pb.VERDICT_PARTIAL)
        elif mode == "start_over_late":
            yield page()
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "too late")
        elif mode == "no_verdict":
            yield page()
        elif mode == "no_done":
            yield page()
            return
        elif mode == "exit":
            yield page()
            print("the secret of the trade\x1b[31m", file=sys.stderr, flush=True)
            os._exit(3)
        elif mode == "talkative":
            for _ in range(2000):
                print("x" * 1000, file=sys.stderr)
                print("x" * 1000)
        yield pb.FromPlugin(done=pb.Done())

    Diff = Discover


def inherited():
    found = []
    for fd in range(3, 128):
        try:
            os.fstat(fd)
            found.append(fd)
        except OSError:
            pass
    return found


INHERITED = inherited()
options = [("grpc.max_send_message_length", -1)]
server = grpc.server(futures.ThreadPoolExecutor(max_workers=2), options=options)
rpc.add_PluginServicer_to_server(Hostile(), server)
server.add_insecure_port(os.environ["CAIRN_PLUGIN_SOCKET"])
server.start()
print("cairn-plugin 1", flush=True)
signal.pause()
