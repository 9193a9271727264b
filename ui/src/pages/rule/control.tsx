// A control that a rule supports, and the way to it.
import { Link } from "react-router";
import { to } from "../../paths";
import { useTenant } from "../../session/me";

/** `id`: framework:control. */
export function ControlLink({ id }: { id: string }) {
  const { slug } = useTenant();
  return <Link to={to.control(slug, id)}>{id}</Link>;
}
