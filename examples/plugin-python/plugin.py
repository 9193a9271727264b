"""A Cairn plugin: the repositories and tags of a container registry, by the OCI distribution API.

It opens no connection. What it wants to know, it asks Cairn for on the stream that Cairn opened, and Cairn adds the password.
"""

import json
import os
from concurrent import futures

import grpc
import plugin_pb2 as pb
import plugin_pb2_grpc as rpc
from differences import tell

SCOPE = "repositories"
PAGE = 100


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
    if answer.reply.status != 200:
        denied = answer.reply.status in (401, 403)
        raise NotRead(pb.VERDICT_DENIED if denied else pb.VERDICT_FAILED, f"the registry answered {answer.reply.status}")
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
    region = "registry:" + json.loads(start.settings_json)["url"].split("://")[1].replace(":", "_")
    count = json.dumps({"tags": len(tags)})
    repository = pb.Node(id=f"{region}:registry.repository:{name}", name=name, properties_json=count)
    nodes = [pb.Node(id=f"{region}:registry.tag:{name}:{tag}", name=tag) for tag in tags]
    edges = [pb.Edge(source=repository.id, target=tag.id, type="contains") for tag in nodes]
    return pb.Page(scope=SCOPE, nodes=[repository, *nodes], edges=edges)


class Registry(rpc.PluginServicer):
    def Describe(self, request, context):
        return pb.Description(name="registry", version="1.0.0")

    def Validate(self, request, context):
        if "docker.io" in json.loads(request.settings_json)["url"]:
            return pb.ValidateReply(setting="url", problem="Docker Hub has no catalog: name a registry of your own")
        return pb.ValidateReply()

    def Discover(self, requests, context):
        start = next(requests).start
        try:
            found = yield from read(requests, start)
            yield from tell(start, SCOPE, found, page)
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
