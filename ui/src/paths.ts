// Every address of the console is made here, and nowhere else.
const part = encodeURIComponent;

function query(of: Record<string, string | undefined>): string {
  const set = Object.entries(of).filter((pair): pair is [string, string] => Boolean(pair[1]));
  return set.length === 0 ? "" : `?${new URLSearchParams(set)}`;
}

/** What findings are shown by; `group`: not one by one. */
export interface FindingsOf {
  status?: string;
  severity?: string;
  rule?: string;
  node?: string;
  type?: string;
  text?: string;
  framework?: string;
  control?: string;
  group?: string;
}

/** What holds the tenant in the address of a page that is of none: the way back, and never whose data is shown. */
export const FROM = "tenant";

const fromTenant = (slug?: string) => query({ [FROM]: slug });

const tenant = (slug: string, rest = "") => `/t/${part(slug)}${rest}`;

export const to = {
  start: () => "/",
  /** `ended`: somebody was signed in until now. */
  login: (next?: string, ended?: boolean) => `/login${query({ next: next === "/" ? undefined : next, ended: ended ? "1" : undefined })}`,
  device: () => "/device",
  account: (from?: string) => `/account${fromTenant(from)}`,
  provider: (name: string, next: string) => `/api/v1/login/${part(name)}${query({ next })}`,
  home: (slug: string) => tenant(slug),
  findings: (slug: string, of: FindingsOf = {}) => tenant(slug, `/findings${query({ ...of })}`),
  finding: (slug: string, id: string) => tenant(slug, `/findings/${part(id)}`),
  controls: (slug: string, of: { framework?: string; result?: string } = {}) => tenant(slug, `/controls${query(of)}`),
  /** `id`: framework:control. */
  control: (slug: string, id: string) => tenant(slug, `/controls/${part(id)}`),
  frameworks: (slug: string) => tenant(slug, "/frameworks"),
  rules: (slug: string, of: { pack?: string } = {}) => tenant(slug, `/rules${query(of)}`),
  rule: (slug: string, id: string) => tenant(slug, `/rules/${part(id)}`),
  evidence: (slug: string, of: { kind?: string; framework?: string; control?: string } = {}) => tenant(slug, `/evidence${query(of)}`),
  statement: (slug: string, id: string) => tenant(slug, `/evidence/${part(id)}`),
  verify: (slug: string) => tenant(slug, "/evidence/verify"),
  nodes: (slug: string, of: { type?: string; name?: string; closed?: string } = {}) => tenant(slug, `/nodes${query(of)}`),
  node: (slug: string, id: string) => tenant(slug, `/nodes/${part(id)}`),
  graph: (slug: string, of: { node?: string; at?: string; reach?: string } = {}) => tenant(slug, `/graph${query(of)}`),
  jobs: (slug: string, of: { status?: string } = {}) => tenant(slug, `/jobs${query(of)}`),
  job: (slug: string, id: string) => tenant(slug, `/jobs/${part(id)}`),
  jobEvents: (slug: string, id: string) => `/api/v1/tenants/${part(slug)}/jobs/${part(id)}/events`,
  jobLog: (slug: string, id: string) => tenant(slug, `/jobs/${part(id)}/log`),
  coverage: (slug: string, of: { source?: string; kind?: string } = {}) => tenant(slug, `/coverage${query(of)}`),
  credentials: (slug: string) => tenant(slug, "/credentials"),
  agents: (slug: string) => tenant(slug, "/agents"),
  agent: (slug: string, id: string) => tenant(slug, `/agents/${part(id)}`),
  relays: (slug: string) => tenant(slug, "/relays"),
  relay: (slug: string, id: string) => tenant(slug, `/relays/${part(id)}`),
  relayLog: (slug: string, id: string) => `/api/v1/tenants/${part(slug)}/relays/${part(id)}/logs?follow=true`,
  destinations: (slug: string) => tenant(slug, "/destinations"),
  /** `named`: its name or its id. */
  destination: (slug: string, named: string) => tenant(slug, `/destinations/${part(named)}`),
  requests: (slug: string) => tenant(slug, "/requests"),
  recordings: (slug: string) => tenant(slug, "/recordings"),
  recording: (slug: string, id: string) => tenant(slug, `/recordings/${part(id)}`),
  grants: (slug: string, of: { destination?: string } = {}) => tenant(slug, `/grants${query(of)}`),
  groups: (slug: string) => tenant(slug, "/groups"),
  group: (slug: string, id: string) => tenant(slug, `/groups/${part(id)}`),
  hostKeys: (slug: string) => tenant(slug, "/ssh-host-keys"),
  accessFile: (slug: string) => tenant(slug, "/access-file"),
  groupRoles: (slug: string) => tenant(slug, "/group-roles"),
  reviews: (slug: string) => tenant(slug, "/reviews"),
  review: (slug: string, id: string) => tenant(slug, `/reviews/${part(id)}`),
  audit: (slug: string, of: { text?: string } = {}) => tenant(slug, `/audit${query(of)}`),
  keys: (slug: string) => tenant(slug, "/keys"),
  members: (slug: string) => tenant(slug, "/members"),
  security: (slug: string) => tenant(slug, "/security"),
  tenants: (from?: string) => `/platform/tenants${fromTenant(from)}`,
  users: (from?: string) => `/platform/users${fromTenant(from)}`,
  providers: (from?: string) => `/platform/providers${fromTenant(from)}`,
  forwards: (from?: string) => `/platform/integrations${fromTenant(from)}`,
  dataKeys: (from?: string) => `/platform/data-keys${fromTenant(from)}`,
  platformAudit: (from?: string) => `/platform/audit${fromTenant(from)}`,
  witnesses: (from?: string) => `/platform/witnesses${fromTenant(from)}`,
};

/** Longest page that a sign-in leads back to, in bytes. */
const PAGE_BYTES_MAX = 2048;
/** Characters that no browser changes; what is escaped says no control character. */
const PLAIN = /^(?:[\w\-./~?=&:@,+!*'()]|%(?!0|1|7f)[0-9a-f]{2})*$/i;

/** A page of ours to go to after the sign-in: the server judges by the same rule (`is_local_page`). */
export function localPage(next: string | null): string {
  if (!next?.startsWith("/") || next.length > PAGE_BYTES_MAX) return to.start();
  const [path = "", query = ""] = next.slice(1).split(/\?(.*)/s);
  const [first = "", ...rest] = path.split("/");
  const dots = (text: string) => /^(?:\.|%2e)*$/i.test(text);
  // The first part names the kind of page. Ids behind it hold slashes and more, and what is escaped stays what it is.
  const good = (path === "" || !dots(first)) && !first.includes("%") && !rest.some(dots);
  return good && PLAIN.test(path) && PLAIN.test(query) ? next : to.start();
}
