// All pages, and what stands before them: a session, an own password, a second factor where one is required.
import { MutationCache, QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { Component, lazy, type ReactNode, Suspense, useEffect, useState } from "react";
import { BrowserRouter, Navigate, Outlet, Route, Routes, useLocation } from "react-router";
import { Problem, told, whenNobody } from "./api/client";
import { Empty, Failed, Loading } from "./design/state";
import { ForcedFactor } from "./pages/login/factor";
import { Gate } from "./pages/login/gate";
import LoginPage from "./pages/login/login";
import { ForcedPassword } from "./pages/login/password";
import { to } from "./paths";
import { SessionEnds } from "./session/ends";
import { followTabs, isLocked, lock } from "./session/lock";
import { hide, isEnded, ME, type Me, MeProvider, tellTabs, useMe, useMeQuery, useTenant } from "./session/me";
import { SignOutProvider } from "./session/out";
import { ProofProvider } from "./session/proof";
import { Frame, TenantFrame } from "./shell/shell";

const HomePage = lazy(() => import("./pages/home/home"));
const FindingsPage = lazy(() => import("./pages/finding/list"));
const FindingPage = lazy(() => import("./pages/finding/show"));
const ControlsPage = lazy(() => import("./pages/control/list"));
const ControlPage = lazy(() => import("./pages/control/show"));
const FrameworksPage = lazy(() => import("./pages/framework/list"));
const RulesPage = lazy(() => import("./pages/rule/list"));
const RulePage = lazy(() => import("./pages/rule/show"));
const EvidencePage = lazy(() => import("./pages/evidence/list"));
const StatementPage = lazy(() => import("./pages/evidence/show"));
const VerifyPage = lazy(() => import("./pages/evidence/verify"));
const NodesPage = lazy(() => import("./pages/node/list"));
const NodePage = lazy(() => import("./pages/node/show"));
const GraphPage = lazy(() => import("./pages/graph/graph"));
const JobsPage = lazy(() => import("./pages/job/list"));
const JobPage = lazy(() => import("./pages/job/show"));
const JobLogPage = lazy(() => import("./pages/job/log"));
const CoveragePage = lazy(() => import("./pages/coverage/list"));
const CredentialsPage = lazy(() => import("./pages/credential/list"));
const FleetPage = lazy(() => import("./pages/fleet/list"));
const AgentPage = lazy(() => import("./pages/fleet/agent"));
const RelayPage = lazy(() => import("./pages/fleet/relay"));
const DestinationsPage = lazy(() => import("./pages/destination/list"));
const DestinationPage = lazy(() => import("./pages/destination/show"));
const RequestsPage = lazy(() => import("./pages/request/list"));
const GrantsPage = lazy(() => import("./pages/grant/list"));
const GroupsPage = lazy(() => import("./pages/group/list"));
const GroupPage = lazy(() => import("./pages/group/show"));
const GroupRolesPage = lazy(() => import("./pages/group/roles"));
const HostKeysPage = lazy(() => import("./pages/hostkey/list"));
const AccessFilePage = lazy(() => import("./pages/accessfile/file"));
const ReviewsPage = lazy(() => import("./pages/review/list"));
const ReviewPage = lazy(() => import("./pages/review/show"));
const RecordingsPage = lazy(() => import("./pages/recording/list"));
const RecordingPage = lazy(() => import("./pages/recording/show"));
const AuditPage = lazy(() => import("./pages/audit/list"));
const KeysPage = lazy(() => import("./pages/key/list"));
const MembersPage = lazy(() => import("./pages/member/list"));
const SecurityPage = lazy(() => import("./pages/policy/list"));
const TenantsPage = lazy(() => import("./pages/tenant/list"));
const UsersPage = lazy(() => import("./pages/user/list"));
const ProvidersPage = lazy(() => import("./pages/provider/list"));
const ForwardsPage = lazy(() => import("./pages/forward/list"));
const DataKeysPage = lazy(() => import("./pages/datakey/list"));
const PlatformAuditPage = lazy(() => import("./pages/audit/platform"));
const WitnessesPage = lazy(() => import("./pages/witness/list"));
const DevicePage = lazy(() => import("./pages/device/device"));
const AccountPage = lazy(() => import("./pages/account/account"));

/** A session that ended ends what is shown, whoever notices. Who never had one is sent to sign in by `Session`. */
function ended(error: unknown) {
  const me = client.getQueryData<Me>(ME);
  if (isEnded(error) && me) lock(client, me);
  // Perhaps a role is not held any more: what may be done is asked again.
  if (error instanceof Problem && [403, 404].includes(error.status)) void client.invalidateQueries({ queryKey: ME });
}

const client = new QueryClient({
  queryCache: new QueryCache({ onError: ended }),
  mutationCache: new MutationCache({ onError: ended }),
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      // What the server refused, it will refuse again.
      retry: (count, error) => count < 2 && error instanceof Problem && (error.status === 0 || error.status >= 500),
    },
  },
});

// A form is refused like anything else; that it is for want of a session, `me` says.
whenNobody(() => {
  if (!isLocked() && client.getQueryData(ME) && client.getQueryState(ME)?.fetchStatus === "idle") void client.invalidateQueries({ queryKey: ME });
});

export function Console() {
  return (
    <QueryClientProvider client={client}>
      <BrowserRouter>
        <Broken>
          <Routes>
            <Route path="/login" element={<LoginPage />} />
            <Route element={<Session />}>
              <Route path="/" element={<Start />} />
              <Route path="/device" element={<Suspense fallback={<Loading />}><DevicePage /></Suspense>} />
              <Route path="/account" element={<Framed />}>
                <Route index element={<AccountPage />} />
              </Route>
              <Route path="/platform" element={<Platform />}>
                <Route path="tenants" element={<TenantsPage />} />
                <Route path="users" element={<UsersPage />} />
                <Route path="providers" element={<ProvidersPage />} />
                <Route path="integrations" element={<ForwardsPage />} />
                <Route path="data-keys" element={<DataKeysPage />} />
                <Route path="audit" element={<PlatformAuditPage />} />
                <Route path="witnesses" element={<WitnessesPage />} />
                <Route path="*" element={<Nowhere />} />
              </Route>
              <Route path="/t/:tenant" element={<TenantFrame />}>
                <Route index element={<HomePage />} />
                <Route path="findings" element={<Allowed needs="findings:read" page={<FindingsPage />} />} />
                <Route path="findings/:finding" element={<Allowed needs="findings:read" page={<FindingPage />} />} />
                <Route path="controls" element={<Allowed needs="findings:read" page={<ControlsPage />} />} />
                <Route path="controls/:control" element={<Allowed needs="findings:read" page={<ControlPage />} />} />
                <Route path="frameworks" element={<Allowed needs="findings:read" page={<FrameworksPage />} />} />
                <Route path="rules" element={<Allowed needs="findings:read" page={<RulesPage />} />} />
                <Route path="rules/:rule" element={<Allowed needs="findings:read" page={<RulePage />} />} />
                <Route path="evidence" element={<Allowed needs="evidence:read" page={<EvidencePage />} />} />
                <Route path="evidence/verify" element={<VerifyPage />} />
                <Route path="evidence/:evidence" element={<Allowed needs="evidence:read" page={<StatementPage />} />} />
                <Route path="nodes" element={<Allowed needs="nodes:read" page={<NodesPage />} />} />
                <Route path="nodes/:node" element={<Allowed needs="nodes:read" page={<NodePage />} />} />
                <Route path="graph" element={<Allowed needs="nodes:read" page={<GraphPage />} />} />
                <Route path="jobs" element={<Allowed needs="jobs:manage" page={<JobsPage />} />} />
                <Route path="jobs/:job" element={<Allowed needs="jobs:manage" page={<JobPage />} />} />
                <Route path="jobs/:job/log" element={<Allowed needs="jobs:manage" page={<JobLogPage />} />} />
                <Route path="coverage" element={<Allowed needs="findings:read" page={<CoveragePage />} />} />
                <Route path="credentials" element={<Allowed needs="credentials:manage" page={<CredentialsPage />} />} />
                <Route path="agents" element={<Allowed needs="fleet:manage" page={<FleetPage key="agent" kind="agent" />} />} />
                <Route path="agents/:agent" element={<Allowed needs="fleet:manage" page={<AgentPage />} />} />
                <Route path="relays" element={<Allowed needs="fleet:manage" page={<FleetPage key="relay" kind="relay" />} />} />
                <Route path="relays/:relay" element={<Allowed needs="fleet:manage" page={<RelayPage />} />} />
                <Route path="destinations" element={<DestinationsPage />} />
                <Route path="destinations/:destination" element={<Allowed needs="access:manage" page={<DestinationPage />} />} />
                <Route path="requests" element={<RequestsPage />} />
                <Route path="grants" element={<Allowed needs="access:manage" page={<GrantsPage />} />} />
                <Route path="groups" element={<Allowed needs="access:manage" page={<GroupsPage />} />} />
                <Route path="groups/:group" element={<Allowed needs="access:manage" page={<GroupPage />} />} />
                <Route path="group-roles" element={<Allowed needs="users:manage" page={<GroupRolesPage />} />} />
                <Route path="ssh-host-keys" element={<Allowed needs="jobs:manage" page={<HostKeysPage />} />} />
                <Route path="access-file" element={<Allowed needs="access:manage" page={<AccessFilePage />} />} />
                <Route path="reviews" element={<ReviewsPage />} />
                <Route path="reviews/:review" element={<ReviewPage />} />
                <Route path="recordings" element={<Allowed needs="recordings:read" page={<RecordingsPage />} />} />
                <Route path="recordings/:recording" element={<Allowed needs="recordings:read" page={<RecordingPage />} />} />
                <Route path="audit" element={<Allowed needs="logs:read" page={<AuditPage />} />} />
                <Route path="keys" element={<Allowed needs="users:manage" page={<KeysPage />} />} />
                <Route path="members" element={<Allowed needs="users:manage" page={<MembersPage />} />} />
                <Route path="security" element={<SecurityPage />} />
                <Route path="*" element={<Nowhere />} />
              </Route>
              <Route path="*" element={<Framed />}>
                <Route path="*" element={<Nowhere />} />
              </Route>
            </Route>
          </Routes>
        </Broken>
      </BrowserRouter>
    </QueryClientProvider>
  );
}

/** Who is there decides what is shown; nobody is sent to sign in. */
function Session() {
  const query = useMeQuery();
  const { pathname, search } = useLocation();
  if (query.isPending) {
    return (
      <main>
        <Loading />
      </main>
    );
  }
  if (!query.data) {
    if (isEnded(query.error)) return <Navigate to={to.login(pathname + search)} replace />;
    return (
      <Gate title="Not now">
        <Failed {...told(query.error)} onRetry={() => void query.refetch()} />
      </Gate>
    );
  }
  return <SignedIn me={query.data} />;
}

function SignedIn({ me }: { me: Me }) {
  const [first] = useState(me.id);
  const { id, session = null } = me;
  // Another page of this browser, which no script of ours saw, may have begun this session: a provider's.
  useEffect(() => tellTabs({ user: id, session }), [id, session]);
  useEffect(() => followTabs(client, me), [me]);
  // Somebody else signed in elsewhere in this browser: what is here is not theirs.
  const other = id !== first;
  useEffect(() => {
    if (!other) return;
    hide();
    window.location.reload();
  }, [other]);
  if (other) return null;
  return (
    <MeProvider me={me}>
      <SessionEnds me={me} />
      <SignOutProvider>
        <ProofProvider>
          {me.must_change_password ? <ForcedPassword /> : me.must_add_second_factor ? <ForcedFactor /> : <Outlet />}
        </ProofProvider>
      </SignOutProvider>
    </MeProvider>
  );
}

function Start() {
  const { tenants } = useMe();
  const first = tenants[0];
  if (first) return <Navigate to={to.home(first.slug)} replace />;
  return (
    <Frame>
      <Empty page title="You belong to no tenant yet">An administrator of one can invite you; you see it here when you sign in the next time.</Empty>
    </Frame>
  );
}

function Framed() {
  return (
    <Frame>
      <Outlet />
    </Frame>
  );
}

/** The API refuses anybody else. */
function Platform() {
  const { platform_admin: may } = useMe();
  return (
    <Frame>{may ? <Outlet /> : <Empty page title="Not for you">This is for those who manage the installation.</Empty>}</Frame>
  );
}

function Nowhere() {
  return <Empty page title="There is no such page">The address is wrong, or what was there is not any more.</Empty>;
}

/** The API refuses anyway; this says it in words before anything is asked. */
function Allowed({ needs, page }: { needs: string; page: ReactNode }) {
  const lacks = useTenant().lacks(needs);
  if (lacks) return <Empty page title="Not with your role">{lacks} A tenant administrator can change that.</Empty>;
  return <Suspense fallback={<Loading />}>{page}</Suspense>;
}

/** A page that broke says so, and the others go on. */
class Broken extends Component<{ children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError() {
    return { broken: true };
  }

  override render() {
    if (!this.state.broken) return this.props.children;
    return (
      <Gate title="This page broke">
        <p>Nothing was changed by that. Reload it, or begin at the start.</p>
        <a className="button" href={to.start()}>
          Begin at the start
        </a>
      </Gate>
    );
  }
}
