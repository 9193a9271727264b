// Naming an identity provider: all that one can sign in with are suggested, and any other can be typed.
import { useQuery } from "@tanstack/react-query";
import { useId } from "react";
import { api, take } from "../../api/client";
import { TextField } from "../../design/field";

interface ProviderFieldProps {
  value: string;
  onChange: (event: { target: { value: string } }) => void;
}

export function ProviderField({ value, onChange }: ProviderFieldProps) {
  const id = useId();
  const providers = useQuery({
    queryKey: ["login"],
    queryFn: ({ signal }) => take(api.GET("/api/v1/login", { signal })),
  });
  return (
    <>
      <TextField label="Identity provider" required help="Its name" list={id} value={value} onChange={onChange} />
      <datalist id={id}>
        {(providers.data?.items ?? []).map((it) => (
          <option key={it.name} value={it.name}>
            {it.title}
          </option>
        ))}
      </datalist>
    </>
  );
}
