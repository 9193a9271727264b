"""How the example tells what it found: what is other than at its checkpoint, or everything where it has none.

A plugin without checkpoints needs none of this: a page for each repository, and `ScopeDone` with the verdict COMPLETE.
"""

import json
import zlib

import plugin_pb2 as pb

CHECKPOINT = 64 << 10


def known(start):
    """What the checkpoint says that was there; None without one, or where it is not ours."""
    try:
        return json.loads(zlib.decompress(start.checkpoints[0].checkpoint)) if start.checkpoints else None
    except (ValueError, zlib.error):
        return None


def gone(scope, was, now):
    """What a page does not show any more; without a new one, all of it."""
    still = {node.id for node in now.nodes} if now else set()
    nodes = [node.id for node in was.nodes if node.id not in still]
    return pb.Gone(scope=scope, nodes=nodes, edges=[edge for edge in was.edges if edge.target not in still])


def tell(start, scope, found, page):
    """Yields the messages that end a scope; `page` makes one of a name and its tags."""
    before = known(start)
    if found == before:
        yield pb.FromPlugin(unchanged=pb.Unchanged(scope=scope))
        return
    was = before or {}
    for name in [name for name in found if found[name] != was.get(name)]:
        yield pb.FromPlugin(page=page(start, name, found[name]))
    for name in [name for name in was if was[name] != found.get(name)]:
        now = page(start, name, found[name]) if name in found else None
        yield pb.FromPlugin(gone=gone(scope, page(start, name, was[name]), now))
    left = zlib.compress(json.dumps(found).encode())
    done = pb.ScopeDone(scope=scope, verdict=pb.VERDICT_COMPLETE, since_checkpoint=before is not None)
    done.checkpoint = left if len(left) <= CHECKPOINT else b""
    yield pb.FromPlugin(scope_done=done)
