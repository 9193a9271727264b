// What a client calls itself, short: browsers say more than a person wants to read.
const BROWSERS: [string, RegExp][] = [
  ["Edge", /Edg\/(\d+)/],
  ["Firefox", /Firefox\/(\d+)/],
  ["Chrome", /Chrome\/(\d+)/],
  ["Safari", /Version\/(\d+).*Safari/],
];
const SYSTEMS = ["Android", "iPhone", "iPad", "Windows", "Mac OS X", "Linux"];

export function client(agent: string | null | undefined): string {
  if (!agent) return "unknown";
  for (const [name, pattern] of BROWSERS) {
    const version = pattern.exec(agent)?.[1];
    if (!version) continue;
    const system = SYSTEMS.find((known) => agent.includes(known));
    return system ? `${name} ${version} on ${system.replace("Mac OS X", "macOS")}` : `${name} ${version}`;
  }
  return agent;
}
