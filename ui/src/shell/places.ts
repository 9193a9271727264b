// Where one can go in a tenant: what the API says that one may read, and nothing else.
import { to } from "../paths";
import type { Tenant } from "../session/me";

export interface Place {
  section: string;
  name: string;
  /** Of the page that opens. */
  path: (slug: string) => string;
  /** One of these is enough; none: everybody. */
  needs: string[];
  icon: string;
}

export const PLACES: Place[] = [
  { section: "", name: "Home", path: to.home, needs: [], icon: "M3 11l9-7 9 7M5 10v10h14V10" },
  {
    section: "Compliance",
    name: "Findings",
    path: (slug) => to.findings(slug),
    needs: ["findings:read"],
    icon: "M12 4l9 16H3zM12 10v4M12 17v.5",
  },
  {
    section: "Compliance",
    name: "Controls",
    path: (slug) => to.controls(slug),
    needs: ["findings:read"],
    icon: "M5 4h14v16H5zM9 12l2 2 4-5",
  },
  {
    section: "Compliance",
    name: "Frameworks",
    path: to.frameworks,
    needs: ["findings:read"],
    icon: "M4 6h16M4 12h16M4 18h16M8 4v4M14 10v4M10 16v4",
  },
  {
    section: "Compliance",
    name: "Rules",
    path: (slug) => to.rules(slug),
    needs: ["findings:read"],
    icon: "M5 5h14M5 12h14M5 19h9M17 17l2 2 3-4",
  },
  {
    section: "Compliance",
    name: "Evidence",
    path: (slug) => to.evidence(slug),
    needs: ["evidence:read"],
    icon: "M12 3l8 3v6c0 5-4 8-8 9-4-1-8-4-8-9V6zM9 12l2 2 4-4",
  },
  {
    section: "Discovery",
    name: "Graph",
    path: (slug) => to.graph(slug),
    needs: ["nodes:read"],
    icon: "M7 7a2 2 0 10-.1 0M18 9a2 2 0 10-.1 0M12 20a2 2 0 10-.1 0M8 6l8 1.500M7 8l4 8M17 9l-4 7",
  },
  {
    section: "Discovery",
    name: "Nodes",
    path: (slug) => to.nodes(slug),
    needs: ["nodes:read"],
    icon: "M6 4v12M6 18a2 2 0 100 .1M18 6a2 2 0 100 .1M6 12c8 0 12-1 12-4",
  },
  {
    section: "Discovery",
    name: "Jobs",
    path: to.jobs,
    needs: ["jobs:manage"],
    icon: "M20 12a8 8 0 10-3 6M20 18v-4h-4M12 8v4l3 2",
  },
  {
    section: "Discovery",
    name: "Coverage",
    path: (slug) => to.coverage(slug),
    needs: ["findings:read"],
    icon: "M4 5h7v7H4zM13 5h7v7h-7zM4 14h7v6H4zM14 17l2 2 4-4",
  },
  {
    section: "Discovery",
    name: "Credentials",
    path: to.credentials,
    needs: ["credentials:manage"],
    icon: "M15 9a4 4 0 10-4 4l1-1 2 2 2-1 3 3 2-2z",
  },
  {
    section: "Discovery",
    name: "SSH host keys",
    path: to.hostKeys,
    needs: ["jobs:manage"],
    icon: "M4 5h16v6H4zM4 13h16v6H4zM7 8h.5M7 16h.5M12 16h5",
  },
  {
    section: "Fleet",
    name: "Agents",
    path: to.agents,
    needs: ["fleet:manage"],
    icon: "M4 5h16v10H4zM9 20h6M12 15v5",
  },
  {
    section: "Fleet",
    name: "Relays",
    path: to.relays,
    needs: ["fleet:manage"],
    icon: "M12 12m-2 0a2 2 0 104 0 2 2 0 10-4 0M7 7a7 7 0 000 10M17 7a7 7 0 010 10",
  },
  {
    section: "Access",
    name: "Destinations",
    path: to.destinations,
    needs: [],
    icon: "M12 21c5-5 7-8 7-11a7 7 0 10-14 0c0 3 2 6 7 11zM12 10v.5",
  },
  {
    section: "Access",
    name: "Access requests",
    path: to.requests,
    needs: [],
    icon: "M4 6h16v10H9l-5 4z",
  },
  {
    section: "Access",
    name: "Grants",
    path: to.grants,
    needs: ["access:manage"],
    icon: "M5 11h14v9H5zM8 11V8a4 4 0 118 0v3",
  },
  {
    section: "Access",
    name: "Groups",
    path: to.groups,
    needs: ["access:manage"],
    icon: "M12 10a3 3 0 10-.1 0M6 20a3 3 0 10-.1 0M18 20a3 3 0 10-.1 0M12 10v4M7 15l5-1 5 1",
  },
  {
    section: "Access",
    name: "Access as code",
    path: to.accessFile,
    needs: ["access:manage"],
    icon: "M8 7l-5 5 5 5M16 7l5 5-5 5M14 5l-4 14",
  },
  {
    section: "Access",
    name: "Access reviews",
    path: to.reviews,
    needs: [],
    icon: "M9 11l2 2 4-4M5 4h14v16H5z",
  },
  {
    section: "Access",
    name: "Recordings",
    path: to.recordings,
    needs: ["recordings:read"],
    icon: "M4 5h16v14H4zM10 9l5 3-5 3z",
  },
  {
    section: "Tenant",
    name: "Audit log",
    path: to.audit,
    needs: ["logs:read"],
    icon: "M6 3h12v18H6zM9 8h6M9 12h6M9 16h3",
  },
  {
    section: "Tenant",
    name: "Members",
    path: to.members,
    needs: ["users:manage"],
    icon: "M9 11a3 3 0 10-.1 0M3 19c0-4 12-4 12 0M16 11a3 3 0 10-.1-5M17 14c3 .3 4 2 4 5",
  },
  {
    section: "Tenant",
    name: "API keys",
    path: to.keys,
    needs: ["users:manage"],
    icon: "M8 12a3 3 0 10.1 0M11 12h9M17 12v3",
  },
  {
    section: "Tenant",
    name: "Security",
    path: to.security,
    needs: ["users:manage", "access:manage", "recordings:read", "fleet:manage", "jobs:manage"],
    icon: "M12 3l8 3v6c0 5-4 8-8 9-4-1-8-4-8-9V6zM12 9v6M9 12h6",
  },
];

/** Where those who manage the installation go. */
export const PLATFORM: { name: string; path: (from?: string) => string; icon: string }[] = [
  { name: "Tenants", path: to.tenants, icon: "M4 20V9l8-5 8 5v11M9 20v-6h6v6" },
  { name: "Users", path: to.users, icon: "M12 11a4 4 0 10-.1 0M5 20c0-5 14-5 14 0" },
  { name: "Identity providers", path: to.providers, icon: "M5 11h14v9H5zM8 11V8a4 4 0 118 0v3M12 15v2" },
  { name: "Integrations", path: to.forwards, icon: "M4 12h10M10 8l4 4-4 4M14 5h6v14h-6" },
  { name: "Data keys", path: to.dataKeys, icon: "M15 9a4 4 0 10-4 4l1-1 2 2 2-1 3 3 2-2z" },
  { name: "Installation log", path: to.platformAudit, icon: "M6 3h12v18H6zM9 8h6M9 12h6M9 16h3" },
  { name: "Witnesses", path: to.witnesses, icon: "M3 12c4-7 14-7 18 0-4 7-14 7-18 0zM12 10a2 2 0 10.1 0" },
];

/** The places of a tenant for whoever may do this there. */
export function placesOf(tenant: Tenant): Place[] {
  return PLACES.filter((place) => place.needs.length === 0 || place.needs.some(tenant.can));
}
