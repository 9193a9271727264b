"""Checks the AWS plugin's table against botocore's service models, and writes what XML does not say about itself.

    python aws_model.py check TABLES   names every operation, path or parameter of the table that the models do not know
    python aws_model.py props TABLES   prints the property paths of every node type, three levels deep
    python aws_model.py write TABLES   writes TABLES/xml.yaml: per operation the lists, numbers and renamed elements of its reply

Run it with the Python of `cargo xtask setup` (.venv) after adding an entry to the table.
"""

import glob
import os
import re
import sys

import botocore.session
import yaml

BOTO = {"cloudwatch": "cloudwatch", "config": "config", "elbv2": "elbv2", "opensearch": "opensearch", "efs": "efs",
        "accessanalyzer": "accessanalyzer"}
problems = []
properties = {}


def snake(name):
    name = re.sub(r"[^A-Za-z0-9]+", "_", name).replace("IPv", "Ipv")
    out = []
    for i, c in enumerate(name):
        if c.isupper():
            prev = name[i - 1] if i else "_"
            rest = name[i + 1:]
            plural = re.match(r"s(?![a-z])", rest)
            starts_word = rest[:1].islower() and not plural
            if prev != "_" and (not prev.isupper() or starts_word):
                out.append("_")
        out.append(c.lower())
    return "".join(out)


def spell(value, depth):
    """A property's shape in a few characters."""
    if isinstance(value, list):
        return "[]" + spell(value[0] if value else None, depth)
    if isinstance(value, dict):
        if "*" in value:
            return " (by name)"
        return " {" + ", ".join(k + spell(v, depth - 1) for k, v in sorted(value.items())) + "}" if depth else " {...}"
    return ""


def wire(name, shape):
    return shape.serialization.get("name", name)


def tree(shape, names, seen=()):
    """The reply as the plugin sees it: dicts, one-element lists, or None for a leaf. `names`: use the models' names (XML) or the wire's."""
    if shape.name in seen:
        return {}
    seen = seen + (shape.name,)
    if shape.type_name == "structure":
        return {snake(k if names else wire(k, v)): tree(v, names, seen) for k, v in shape.members.items()}
    if shape.type_name == "list":
        return [tree(shape.member, names, seen)]
    if shape.type_name == "map":
        return {"*": tree(shape.value, names, seen)}
    return None


def walk(node, path):
    for part in [p for p in path.split(".") if p]:
        m = re.match(r"^([a-z0-9_]+)((?:\[\d*\])*)$", part)
        if not m:
            return "bad"
        if isinstance(node, dict):
            if m[1] in node:
                node = node[m[1]]
            elif "*" in node:
                node = node["*"]
            elif node == {}:
                return {}
            else:
                return "bad"
        elif node == "any":
            return "any"
        else:
            return "bad"
        if m[2]:
            if node == "any":
                return "any"
            if not isinstance(node, list):
                return "bad"
            node = node[0]
    return node


def facts(shape, parent, out, member=False, seen=()):
    """Lists, numbers and renamed elements under `shape`, by wire name; `parent/wire` where one name means two things."""
    if seen.count(shape.name):
        return
    seen = seen + (shape.name,)
    if shape.type_name == "structure":
        for name, sub in shape.members.items():
            w = wire(name, sub)
            if sub.serialization.get("location") in ("header", "headers", "statusCode"):
                continue
            flat = sub.type_name == "list" and sub.serialization.get("flattened")
            if flat:
                w = sub.member.serialization.get("name", w)
            kind = "flat" if flat else "list" if sub.type_name == "list" else "number" if sub.type_name in ("integer", "long", "float", "double") else "other"
            item = sub
            if sub.type_name == "list" and sub.member.type_name in ("integer", "long", "float", "double"):
                out.append((parent, w, kind + " number", snake(name)))
            else:
                out.append((parent, w, kind, snake(name)))
            if sub.type_name == "list":
                item = sub.member
            if sub.type_name == "map":
                if sub.value.type_name in ("integer", "long", "float", "double"):
                    out.append((w, "value", "number", "value"))
                item = sub.value
            inner = w if flat or sub.type_name != "list" else w
            facts(item, inner, out, seen=seen)
    elif shape.type_name == "list":
        facts(shape.member, parent, out, seen=seen)


def main(mode, folder):
    session = botocore.session.get_session()
    services = []
    for file in sorted(glob.glob(os.path.join(folder, "*.yaml"))):
        if os.path.basename(file) == "xml.yaml":
            continue
        data = yaml.safe_load(open(file))
        services += data if isinstance(data, list) else [data]
    by_name = {s.get("name", s["service"]): s for s in services}
    models = {n: session.get_service_model(n) for n in by_name}
    xml = {}

    def model_of(service, call, where):
        model = models[service]
        op = call["call"]
        alias = op
        if op == "GetBucketLifecycleConfiguration":
            alias = op
        if alias not in model.operation_names:
            problems.append(f"{where}: {service} has no operation {op}")
            return None, True
        proto = by_name[service]["protocol"]
        names = proto in ("query", "ec2", "rest-xml")
        operation = model.operation_model(alias)
        if names and operation.output_shape is not None:
            out = []
            wrapped = operation.output_shape
            payload = wrapped.serialization.get("payload")
            if payload and proto == "rest-xml":
                wrapped = wrapped.members[payload]
            if wrapped.type_name == "structure":
                facts(wrapped, "", out)
            xml.setdefault(service, {})[op] = out
        # HTTP bindings
        if "rest" in proto:
            method, _, path = call.get("http", "").partition(" ")
            want = operation.http
            path_only = re.sub(r"\{[^}]*\}", "*", path.split("?")[0]).rstrip("/")
            want_path = re.sub(r"\{[^}]*\}", "*", want["requestUri"].split("?")[0]).rstrip("/")
            if method != want["method"] or path_only != want_path:
                problems.append(f"{where}: {op} is {want['method']} {want['requestUri']}, not {call.get('http')}")
            q = [p.partition("=")[0] for p in path.split("?")[1].split("&")] if "?" in path else []
            wq = [p.partition("=")[0] for p in want["requestUri"].split("?")[1].split("&")] if "?" in want["requestUri"] else []
            if q != wq:
                problems.append(f"{where}: {op} has the query {wq}, not {q}")
        shape = operation.input_shape
        known = set()
        if shape is not None:
            for k, v in shape.members.items():
                known |= {k, wire(k, v), v.serialization.get("queryName", k)}
        pages = call.get("page", by_name[service].get("page", {})) if call.get("items") or "scope" in call else {}
        explicit = call.get("page")
        for p in list(call.get("params", {})) + (list(pages) if explicit is not None else []):
            base = p.split(".")[0]
            if base not in known and base + "s" not in known and not any(k.lower() == base.lower() for k in known):
                problems.append(f"{where}: {op} has no parameter {p}")
        t = None
        if operation.output_shape is not None:
            o = operation.output_shape
            payload = o.serialization.get("payload")
            if payload and o.members[payload].type_name == "structure":
                t = tree(o.members[payload], names)
            else:
                t = tree(o, names)
        for i, o in pages.items():
            if explicit is not None and t is not None and walk(t, o) == "bad":
                problems.append(f"{where}: {op} answers no {o}")
        return t, names

    def template_paths(text):
        return [re.sub(r"\|.*", "", p) for p in re.findall(r"\{([^{}]*)\}", text)]

    def check_template(text, item, parent, where):
        for p in template_paths(text):
            if p in ("account", "region", "partition") or p.startswith("tag:"):
                continue
            node, rest = (parent, p[7:]) if p.startswith("parent.") else (item, p)
            if walk(node if node is not None else {}, rest) == "bad":
                problems.append(f"{where}: no path {p}")

    def put(item, into, value):
        if into == ".":
            if isinstance(value, dict):
                item.update(value)
            return
        item[into] = value

    def list_item(call, t, where):
        node = walk(t, call.get("items", "").removesuffix("[]")) if call.get("items") else t
        if node == "bad":
            problems.append(f"{where}: {call['call']} answers no {call.get('items')}")
            return {}
        if isinstance(node, list):
            node = node[0]
        if call.get("as"):
            return {call["as"]: None}
        return dict(node) if isinstance(node, dict) else {}

    for name, service in by_name.items():
        for entry in service.get("entries", []):
            where = f"{name}.{entry['scope']}"
            parent = {}
            if "each" in entry:
                t, _ = model_of(name, entry["each"], where)
                parent = list_item(entry["each"], t, where) if t is not None else {}
            item = {}
            if "before" in entry:
                model_of(name, entry["before"], where)
            if "call" in entry:
                t, _ = model_of(name, entry, where)
                if "csv" in entry:
                    item = {"*": None}
                elif t is not None:
                    item = list_item(entry, t, where)
            for sub in entry.get("sub", []):
                sn = sub.get("service", name)
                t, _ = model_of(sn, sub, where)
                if sub.get("raw"):
                    put(item, sub["into"], "any")
                    continue
                if t is None:
                    continue
                if sub.get("items"):
                    value = [list_item(sub, t, where)]
                else:
                    value = walk(t, sub.get("take", ""))
                    if value == "bad":
                        problems.append(f"{where}: {sub['call']} answers no {sub['take']}")
                        value = {}
                for d in sub.get("drop", []):
                    if isinstance(value, (dict,)) and walk(value, d) == "bad":
                        problems.append(f"{where}: {sub['call']}: nothing to drop at {d}")
                if sub.get("each"):
                    target = walk(item, sub["each"])
                    if isinstance(target, dict):
                        put(target, sub["into"], value)
                    else:
                        problems.append(f"{where}: no path {sub['each']}")
                else:
                    put(item, sub["into"], value)
                for text in [sub.get("http", "")] + [v for v in sub.get("params", {}).values() if isinstance(v, str)]:
                    check_template(text, {**item, **(walk(item, sub["each"]) if sub.get("each") else {})}, {**parent, **item}, where)
            for path, kind in entry.get("shape", {}).items():
                if walk(item, path) == "bad":
                    problems.append(f"{where}: nothing to shape at {path}")
                if kind in ("policy", "json", "kv", "names"):
                    top = path.split(".")
                    if len(top) == 1:
                        item[path] = "any" if kind != "kv" else {"*": None}
            for path in entry.get("drop", []):
                if walk(item, path) == "bad":
                    problems.append(f"{where}: nothing to drop at {path}")
            def outputs(e, it, par):
                properties.setdefault(e["type"], {}).update(it)
                for text in [e["id"], e.get("name", "")]:
                    check_template(text, it, par, where)
                for edge in e.get("edges", []):
                    check_template(edge["id"], it, par, where + " edge " + edge["type"])
                    for k in edge.get("when", {}):
                        if walk(it, k) == "bad":
                            problems.append(f"{where}: no path {k}")
                for child in e.get("children", []):
                    node = walk(it, child["items"])
                    if node == "bad":
                        problems.append(f"{where}: no path {child['items']}")
                        continue
                    outputs(child, node, it)
            outputs(entry, item, parent)

    if mode == "write":
        lines = ["# Written by crates/testkit/peers/aws_model.py: what the XML replies of these operations do not say about themselves.",
                 "# lists: elements whose children are items; flat: elements that repeat; numbers; names: elements that the API names otherwise.",
                 "# `parent/element` where an element's name alone does not decide."]
        for service in sorted(xml):
            first = len(lines)
            for op in sorted(xml[service]):
                rows = xml[service][op]
                out = {"lists": set(), "flat": set(), "numbers": set(), "names": {}}
                by_wire = {}
                for parent, w, kind, name in rows:
                    by_wire.setdefault(w, set()).add((kind, name))
                for parent, w, kind, name in rows:
                    split = {k for k, _ in by_wire[w]}
                    key = w if len(split) == 1 else f"{parent}/{w}"
                    if kind.startswith("list"):
                        out["lists"].add(key)
                    if kind.startswith("flat"):
                        out["flat"].add(key)
                    if kind.endswith("number"):
                        out["numbers"].add(key)
                    names = {n for _, n in by_wire[w]}
                    if name != snake(w):
                        out["names"][w if len(names) == 1 else f"{parent}/{w}"] = name
                parts = []
                for k in ("lists", "flat", "numbers"):
                    if out[k]:
                        parts.append(f"{k}: [{', '.join(sorted(out[k]))}]")
                if out["names"]:
                    parts.append("names: {" + ", ".join(f"{k}: {v}" for k, v in sorted(out["names"].items())) + "}")
                if parts:
                    lines.append(f"  {op}: {{{', '.join(parts)}}}")
            if len(lines) > first:
                lines.insert(first, f"{service}:")
        open(os.path.join(folder, "xml.yaml"), "w").write("\n".join(lines) + "\n")
    if mode == "props":
        for kind, item in sorted(properties.items()):
            print(f"## {kind}\n")
            for name, value in sorted(item.items()):
                print(f"- `{name}`{spell(value, 2)}")
            print()
        return 0
    for p in sorted(set(problems)):
        print(p)
    return 1 if problems and mode == "check" else 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("check", "props", "write"):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
