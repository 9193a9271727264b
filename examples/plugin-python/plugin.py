"""A Cairn plugin: the repositories and tags of a container registry, by the OCI distribution API.

It opens no connection. What it wants to know, it asks Cairn for on the stream that Cairn opened, and Cairn adds the password.
"""

import json
import os
import zlib
from concurrent import futures

import grpc
import plugin_pb2 as pb
import plugin_pb2_grpc as rpc

SCOPE = "repositories"
PAGE = 100
CHECKPOINT = 64 << 10


class NotRead(Exception):
    """The registry did not tell, with the verdict that this makes."""

    def __init__(self, verdict, reason):
        super().__init__(reason)
        self.verdict = verdict


def ask(requests, start, path, query):
    """Asks for one page. `yield from` it: the call goes out on the stream, and the answer is the next message in."""
    pairs = [pb.Pair(name=name, value=value) for name, value in query.items()]
    http = pb.HttpCall(origin=json.loads(start.settings_json)["url"], method="GET", path=path, query=pairs)
    yield pb.FromPlugin(call=pb.Call(scope=SCOPE, credential_id=start.credential_id, keep=True, http=http))
    answer = next(requests).reply
    if answer.WhichOneof("what") == "refusal":
        denied = answer.refusal.code in ("denied", "credential", "not_allowed")
        raise NotRead(pb.VERDICT_DENIED if denied else pb.VERDICT_FAILED, answer.refusal.message)
    if answer.reply.status in (401, 403):
        raise NotRead(pb.VERDICT_DENIED, f"the registry answered {answer.reply.status}")
    if answer.reply.status != 200:
        raise NotRead(pb.VERDICT_FAILED, f"the registry answered {answer.reply.status}")
    return json.loads(answer.reply.body)


def pages(requests, start, path, key):
    """Reads a list to its last page, which is the one that is not full."""
    items, last = [], {}
    while True:
        found = (yield from ask(requests, start, path, {"n": str(PAGE), **last})).get(key) or []
        items += found
        if len(found) < PAGE or not found:
            return items
        last = {"last": found[-1]}


def node(kind, host, resource, name, properties):
    return pb.Node(
        id=f"registry:{host}:registry.{kind}:{resource}",
        name=name,
        properties_json=json.dumps(properties),
    )


def read(requests, start):
    """Yields messages; returns what the registry holds: the tags of each repository."""
    found = {}
    names = yield from pages(requests, start, "/v2/_catalog", "repositories")
    for done, name in enumerate(names):
        found[name] = yield from pages(requests, start, f"/v2/{name}/tags/list", "tags")
        yield pb.FromPlugin(progress=pb.Progress(done=done + 1, total=len(names), message=name))
    return found


def page(start, name, tags):
    """A repository with its tags, as nodes and edges."""
    # A region has no colon: the port is behind an underscore.
    host = json.loads(start.settings_json)["url"].split("://")[1].replace(":", "_")
    repository = node("repository", host, name, name, {"tags": len(tags)})
    nodes = [node("tag", host, f"{name}:{tag}", tag, {"repository": name}) for tag in tags]
    edges = [pb.Edge(source=repository.id, target=tag.id, type="contains") for tag in nodes]
    return pb.Page(scope=SCOPE, nodes=[repository, *nodes], edges=edges)


def gone(start, name, before, now):
    """What a repository does not show any more; None: it is gone itself."""
    was = page(start, name, before)
    still = set() if now is None else {n.id for n in page(start, name, now).nodes}
    nodes = [n.id for n in was.nodes if n.id not in still]
    return pb.Gone(scope=SCOPE, nodes=nodes, edges=[edge for edge in was.edges if edge.target not in still])


def known(start):
    """What the checkpoint says that was there; None without one, or where it is not ours."""
    try:
        return json.loads(zlib.decompress(start.checkpoints[0].checkpoint)) if start.checkpoints else None
    except (ValueError, zlib.error):
        return None


class Registry(rpc.PluginServicer):
    def Describe(self, request, context):
        return pb.Description(name="registry", version="1.0.0")

    def Validate(self, request, context):
        if "docker.io" in json.loads(request.settings_json)["url"]:
            return pb.ValidateReply(setting="url", problem="Docker Hub has no catalog: name a registry of your own")
        return pb.ValidateReply()

    def Discover(self, requests, context):
        start = next(requests).start
        before = known(start)
        try:
            found = yield from read(requests, start)
            if found == before:
                yield pb.FromPlugin(unchanged=pb.Unchanged(scope=SCOPE))
            else:
                was = before or {}
                for name in [name for name in found if found[name] != was.get(name)]:
                    yield pb.FromPlugin(page=page(start, name, found[name]))
                for name in [name for name in was if was[name] != found.get(name)]:
                    yield pb.FromPlugin(gone=gone(start, name, was[name], found.get(name)))
                left = zlib.compress(json.dumps(found).encode())
                done = pb.ScopeDone(scope=SCOPE, verdict=pb.VERDICT_COMPLETE, since_checkpoint=before is not None)
                done.checkpoint = left if len(left) <= CHECKPOINT else b""
                yield pb.FromPlugin(scope_done=done)
        except NotRead as why:
            yield pb.FromPlugin(scope_done=pb.ScopeDone(scope=SCOPE, verdict=why.verdict, reason=str(why)))
        yield pb.FromPlugin(done=pb.Done())

    Diff = Discover


server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
rpc.add_PluginServicer_to_server(Registry(), server)
server.add_insecure_port(os.environ["CAIRN_PLUGIN_SOCKET"])
server.start()
print("cairn-plugin 1", flush=True)
server.wait_for_termination()
