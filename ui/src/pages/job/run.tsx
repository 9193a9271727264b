// The way to a job, for pages that a job fills.
import { Link } from "react-router";
import { Button } from "../../design/button";
import { to } from "../../paths";
import { useTenant } from "../../session/me";

export function RunJob() {
  const tenant = useTenant();
  const lacks = tenant.lacks("jobs:manage");
  if (lacks) return <Button reason={lacks}>Run a job</Button>;
  return (
    <Link className="button plain" to={to.jobs(tenant.slug)}>
      Run a job
    </Link>
  );
}
