// One recording: what is known of it, and its replay.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useParams } from "react-router";
import { api, take, takeBytes, told as words } from "../../api/client";
import { Badge } from "../../design/badge";
import { Button } from "../../design/button";
import { Facts } from "../../design/facts";
import { Head, Panel } from "../../design/panel";
import { plain } from "../../design/plain";
import { Failed, Loading, Notice } from "../../design/state";
import { Moment } from "../../design/time";
import { Checked } from "../../evidence/check";
import { save } from "../../list/export";
import { lost } from "../../list/lost";
import { to } from "../../paths";
import { useTenant } from "../../session/me";
import { useWithProof } from "../../session/proof";
import { useTitle } from "../../shell/title";
import { type Cast, parse } from "./cast";
import { told } from "./list";
import { Player } from "./player";

export default function RecordingPage() {
  const { recording: id = "" } = useParams();
  const { slug } = useTenant();
  const params = { path: { tenant: slug, recording: id } };
  const withProof = useWithProof();
  const query = useQuery({
    queryKey: ["tenant", slug, "recording", id],
    queryFn: ({ signal }) => take(api.GET("/api/v1/tenants/{tenant}/recordings/{recording}", { params, signal })),
  });
  const [cast, setCast] = useState<Cast>();
  const [bundle, setBundle] = useState<Uint8Array<ArrayBuffer>>();
  const [failed, setFailed] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  useTitle("Recording");
  if (query.isPending) return <Loading />;
  if (lost(query)) return <Failed {...words(query.error)} onRetry={() => void query.refetch()} />;
  const it = query.data;
  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    setFailed(undefined);
    try {
      await withProof(work);
    } catch (error) {
      setFailed(error);
    }
    setBusy(false);
  };
  const load = () =>
    attempt(async () => {
      const bytes = await takeBytes(
        api.GET("/api/v1/tenants/{tenant}/recordings/{recording}/cast", { params, parseAs: "arrayBuffer" }),
      );
      setCast(parse(new TextDecoder().decode(bytes)));
    });
  const fetchBundle = () =>
    attempt(async () => {
      const bytes = await takeBytes(
        api.GET("/api/v1/tenants/{tenant}/recordings/{recording}/bundle", { params, parseAs: "arrayBuffer" }),
      );
      setBundle(bytes);
    });
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link to={to.recordings(slug)}>Recordings</Link> <span aria-hidden="true">/</span> <span>{it.id}</span>
      </nav>
      <Head title={told(it.target)} about={plain(`${it.user} at ${it.destination_name}`)} />
      {failed !== undefined && <Failed {...words(failed)} />}
      {it.state === "cut_off" && <Notice kind="care">Not everything is recorded: {plain(it.reason ?? "it was cut off")}.</Notice>}
      {it.left_out > 0 && <Notice kind="care">{it.left_out.toLocaleString("en")} bytes are left out, where it says so.</Notice>}
      <Panel title="Replay">
        {cast ? (
          <Player cast={cast} />
        ) : (
          <div className="stack">
            <p className="muted">It may show secrets. Seeing it needs a fresh proof of who you are, and is in the audit log.</p>
            <div className="row">
              <Button kind="primary" busy={busy} onClick={() => void load()}>
                Show what was recorded
              </Button>
            </div>
          </div>
        )}
      </Panel>
      {it.evidence && (
        <Panel title="Signed evidence">
          {bundle ? (
            <div className="stack">
              <div className="row">
                <Button onClick={() => save(`${id}.zip`, "application/zip", bundle)}>Save the bundle</Button>
                <span className="muted small">
                  {id}.zip, {(bundle.length / 1024).toFixed(0)} KiB
                </span>
              </div>
              <Checked bundle={bundle} statement={it.evidence} />
            </div>
          ) : (
            <div className="stack">
              <p className="muted">
                The recording with its signed statement, which anybody can verify offline. It holds all that was recorded, and getting it is in the audit
                log too.
              </p>
              <div className="row">
                <Button busy={busy} onClick={() => void fetchBundle()}>
                  Get the signed bundle
                </Button>
              </div>
            </div>
          )}
        </Panel>
      )}
      <Panel title="About it">
        <Facts
          of={[
            ["State", <Badge key="state" word={it.state.replace("_", " ")} />],
            ["Who", it.user_known ? plain(it.user) : `${plain(it.user)} (by the relay’s word)`],
            ["Role", plain(it.role)],
            ["Grants", it.grants.length > 0 ? it.grants.join(", ") : "none"],
            ["From", it.from ?? "unknown"],
            ["Began", <Moment key="began" at={it.began_at} />],
            ["Ended", it.ended_at ? <Moment key="ended" at={it.ended_at} /> : "it goes on"],
            ["Why it ended", plain(it.reason ?? "")],
            ["Exit status", it.exit === undefined || it.exit === null ? "unknown" : String(it.exit)],
            ["What was typed", it.input ? "is in it" : "is not recorded"],
            ["SHA-256", <code key="sha">{it.sha256 ?? "when it has ended"}</code>],
            ["Kept until", <Moment key="kept" at={it.kept_until} />],
          ]}
        />
      </Panel>
    </>
  );
}
