// A host that is reached with SSH certificates: what Cairn knows of it, and what the host has to be told.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { api, type Schemas, take, told } from "../../api/client";
import { Button } from "../../design/button";
import { Facts } from "../../design/facts";
import { Panel } from "../../design/panel";
import { Copyable } from "../../design/secret";
import { Failed, Loading } from "../../design/state";
import { When } from "../../design/time";
import { useChange } from "../../list/change";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { HostDialog, saysHost } from "./register";

type Host = Schemas["SshHost"];

export function useHost(destination: string, enabled: boolean) {
  const { slug } = useTenant();
  const params = { path: { tenant: slug, destination } };
  return useQuery({
    queryKey: ["tenant", slug, "ssh-host", destination],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/destinations/{destination}/ssh-host", { params, signal })),
    enabled,
  });
}

/** What of a host is shown on its page, and how it is changed. */
export function HostPanels({ destination }: { destination: string }) {
  const query = useHost(destination, true);
  const [changing, setChanging] = useState(false);
  if (query.isPending) return <Loading rows={4} />;
  if (lost(query)) return <Failed {...told(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  return (
    <>
      <Panel
        title="The host"
        action={
          <Button small onClick={() => setChanging(true)}>
            Change the host…
          </Button>
        }
      >
        <Facts
          of={saysHost(it).map(([name, said]) => [name, name === "Address" || name === "Its key" ? <code key={name}>{said}</code> : said])}
        />
      </Panel>
      <Tell host={it} />
      {/* A certificate that was signed is of the key that it was signed for. */}
      <HostCertificate key={it.host_key} host={it} />
      {changing && <HostDialog of={it} onClose={() => setChanging(false)} />}
    </>
  );
}

/** Both files that a host needs, and what makes its accounts: to be copied as they are. */
function Tell({ host }: { host: Host }) {
  return (
    <Panel title="Tell the host">
      <div className="stack">
        <p>
          As root, into <code>/etc/ssh/cairn_ca.pub</code>: the keys whose certificates it takes. A new one stands here a week before it signs, so fetch
          them once a day from <code>/.well-known/cairn-ssh-ca.pub</code>.
        </p>
        <Copyable name="Keys of the authority" text={host.authorities.join("\n")} />
        <p>
          Into <code>/etc/ssh/sshd_config.d/cairn.conf</code>, which <code>sshd_config</code> has to include; then <code>systemctl reload ssh</code>. The
          lines are of this host only: without the second one it lets nobody in by a certificate.
        </p>
        <Copyable name="Lines for sshd" text={host.sshd_config.trimEnd()} />
        <p>Accounts that are not there yet are made by a script that the command line prints, and that root runs on the host.</p>
        <Copyable name="Command that prints the script" text={`cairn destinations host ${host.name} --accounts > accounts.sh`} />
      </div>
    </Panel>
  );
}

/** Where a certificate of this key stands: beside the key, whose file is named by its kind. */
function certificateFile(hostKey: string): string {
  const kind = (hostKey.split(" ")[0] ?? "").replace(/^ssh-/, "").replace(/-sha2-.*$/, "");
  return `/etc/ssh/ssh_host_${kind}_key-cert.pub`;
}

/** The host's own certificate, where its users have the authority's line and no other. */
function HostCertificate({ host }: { host: Host }) {
  const tenant = useTenant();
  const { slug } = tenant;
  const { change, failure } = useChange(["tenant", slug, "ssh-host", host.id]);
  const [signed, setSigned] = useState<Schemas["SshHostCertificate"]>();
  const [busy, setBusy] = useState(false);
  const params = { path: { tenant: slug, destination: host.id } };
  const file = certificateFile(host.host_key);
  const sign = async () => {
    setBusy(true);
    await change(async () => {
      setSigned(await take(api.POST("/api/v1/tenants/{tenant}/destinations/{destination}/ssh-host/certificates", { params })));
    });
    setBusy(false);
  };
  return (
    <Panel title="Certificate of the host">
      <div className="stack">
        <p>
          If you like: <code>cairn ssh</code> knows the host by its key anyway. With a certificate, whoever has the authority’s line in{" "}
          <code>known_hosts</code> is never asked whether they know it.
        </p>
        {failure}
        {signed && (
          <>
            <p>
              Into <code>{file}</code>, beside the key. It ends <When at={signed.expires_at} />; signing again
              makes another one.
            </p>
            <Copyable name="Certificate" text={signed.certificate} />
            <p>One more line for sshd, and one for users who come without <code>cairn</code>:</p>
            <Copyable name="Line of the certificate" text={`HostCertificate ${file}`} />
            <Copyable name="Line for known_hosts" text={host.authorities.map((key) => `@cert-authority ${signed.principal} ${key}`).join("\n")} />
          </>
        )}
        <div className="row">
          <Button busy={busy} onClick={() => void sign()}>
            {signed ? "Sign its key again" : "Sign its key for 90 days"}
          </Button>
          {tenant.can("logs:read") && (
            <Link to={to.audit(slug, { text: "ssh_host_certificate_create" })}>Certificates that were made</Link>
          )}
        </div>
      </div>
    </Panel>
  );
}
