// Choosing a role, with what it lets its holder do.
import { useQuery } from "@tanstack/react-query";
import { api, take } from "../../api/client";
import { Select } from "../../design/field";

interface RoleProps {
  role: string;
  /** A key has no part of what is for people. */
  byKey?: boolean;
  onChange: (role: string) => void;
}

export function RoleField({ role, byKey, onChange }: RoleProps) {
  const roles = useQuery({ queryKey: ["roles"], queryFn: ({ signal }) => take(api.GET("/api/v1/roles", { signal })) });
  const chosen = roles.data?.items.find((it) => it.name === role);
  const may = chosen?.permissions.filter((it) => !byKey || !chosen.not_by_key.includes(it));
  return (
    <Select label="Role" help={may && `May: ${may.join(", ")}`} value={role} onChange={(event) => onChange(event.target.value)}>
      {(roles.data?.items ?? [{ name: role }]).map((it) => (
        <option key={it.name}>{it.name}</option>
      ))}
    </Select>
  );
}
