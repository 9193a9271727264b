// The installation's own audit log: tenants, users, keys, providers, and who changed them.
import { api, take, takeBytes } from "../../api/client";
import { AuditLog } from "./list";

export default function PlatformAuditPage() {
  return (
    <AuditLog
      of={{
        name: "installation",
        title: "Installation log",
        about: "What was done to the installation as a whole. What happens inside a tenant is in that tenant’s own log.",
        queryKey: ["platform", "audit"],
        records: (query, signal) => take(api.GET("/api/v1/audit", { params: { query }, ...(signal && { signal }) })),
        file: (query) => takeBytes(api.GET("/api/v1/audit-export", { params: { query }, parseAs: "arrayBuffer" })),
        log: (signal) => take(api.GET("/api/v1/log", { ...(signal && { signal }) })),
        checkpoint: async () => String(await take(api.GET("/api/v1/log/checkpoint", { parseAs: "text" }))),
        checkpoints: (query, signal) => take(api.GET("/api/v1/log/checkpoints", { params: { query }, ...(signal && { signal }) })),
        verify: (query) => take(api.GET("/api/v1/log/verify", { params: { query } as never })),
        proof: async (seq) => String(await take(api.GET("/api/v1/log/proof", { params: { query: { seq: String(seq) } } as never, parseAs: "text" }))),
      }}
    />
  );
}
