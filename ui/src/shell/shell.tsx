// The frame around every page of a tenant: where one is, as whom, and where one can go.
import { useQueryClient } from "@tanstack/react-query";
import { type KeyboardEvent as Pressed, type ReactNode, Suspense, useEffect, useRef, useState } from "react";
import { Link, NavLink, Outlet, useLocation, useNavigate } from "react-router";
import { told } from "../api/client";
import mark from "../cairn.svg";
import { arrive } from "../design/arrival";
import { Button } from "../design/button";
import { Select } from "../design/field";
import { Empty, Loading, Notice } from "../design/state";
import { clock } from "../design/time";
import { useStale } from "../list/lost";
import { to } from "../paths";
import { useMe, useTenantAtHand, useTenantOrNone } from "../session/me";
import { useSignOut } from "../session/out";
import { Palette } from "./palette";
import { PLATFORM, placesOf } from "./places";
import { setTheme, THEMES, type Theme, theme } from "./theme";

function Icon({ path }: { path: string }) {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <path d={path} />
    </svg>
  );
}

function Navigation() {
  const me = useMe();
  const tenant = useTenantAtHand();
  const places = tenant ? placesOf(tenant) : [];
  if (places.length === 0 && !me.platform_admin) return null;
  const sections = [...new Set(places.map((place) => place.section))];
  return (
    <nav aria-label="Pages">
      {sections.map((section) => (
        <div key={section}>
          {section && <h2>{section}</h2>}
          <ul>
            {places
              .filter((place) => place.section === section)
              .map((place) => (
                <li key={place.name}>
                  <NavLink to={place.path(tenant?.slug ?? "")} end={section === ""}>
                    <Icon path={place.icon} />
                    {place.name}
                  </NavLink>
                </li>
              ))}
          </ul>
        </div>
      ))}
      {me.platform_admin && (
        <div>
          <h2>Installation</h2>
          <ul>
            {PLATFORM.map((place) => (
              <li key={place.name}>
                <NavLink to={place.path(tenant?.slug)}>
                  <Icon path={place.icon} />
                  {place.name}
                </NavLink>
              </li>
            ))}
          </ul>
        </div>
      )}
    </nav>
  );
}

function TenantSwitch() {
  const { tenants } = useMe();
  const tenant = useTenantAtHand();
  const navigate = useNavigate();
  const client = useQueryClient();
  const enter = (slug: string) => {
    // Nothing of one tenant stays in memory when another is shown, not even an answer that is still on its way.
    void client.cancelQueries({ queryKey: ["tenant"] });
    client.removeQueries({ queryKey: ["tenant"] });
    void navigate(to.home(slug));
  };
  if (tenants.length === 0) return null;
  return (
    <div className="switch">
      <Select label="Tenant" value={tenant?.slug ?? ""} onChange={(event) => enter(event.target.value)}>
        {!tenant && <option value="">choose…</option>}
        {tenants.map(({ slug, name }) => (
          <option key={slug} value={slug}>
            {name}
          </option>
        ))}
      </Select>
    </div>
  );
}

function Foot() {
  const me = useMe();
  const tenant = useTenantAtHand();
  const [chosen, setChosen] = useState(theme());
  const choose = (next: Theme) => {
    setTheme(next);
    setChosen(next);
  };
  return (
    <div className="foot">
      <Link to={to.account(tenant?.slug)} className="clip" title={me.email ?? me.name}>
        {me.email ?? me.name}
      </Link>
      <div className="row apart">
        <Button kind="quiet" small onClick={() => choose(THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length] ?? "system")}>
          Theme: {chosen}
        </Button>
        <Button kind="quiet" small onClick={useSignOut()}>
          Sign out
        </Button>
      </div>
    </div>
  );
}

/** The page that is shown; none before the first. The frame itself is made anew between tenants. */
let shownPage: string | undefined;

/** A page that is gone to begins at its top, and has the focus. The first one is the browser's matter. */
function useArrival() {
  const { pathname } = useLocation();
  const page = useRef<HTMLElement>(null);
  useEffect(() => {
    const before = shownPage;
    shownPage = pathname;
    if (before === undefined || before === pathname) return;
    window.scrollTo(0, 0);
    if (page.current) arrive(page.current);
  }, [pathname]);
  return page;
}

/** Where the window is narrow, the pages are behind a button until one is chosen. */
function useMenu() {
  const { pathname } = useLocation();
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => setOpen(false), [pathname]);
  const close = (event: Pressed) => {
    if (!open || event.key !== "Escape") return;
    setOpen(false);
    button.current?.focus();
  };
  return { open, toggle: () => setOpen(!open), close, button };
}

/** What is shown may be of before: one line for the whole page, which stays as it is. */
function Stale() {
  const stale = useStale();
  if (!stale) return null;
  const { message, requestId } = told(stale.error);
  return (
    <Notice kind="care">
      <div className="row apart">
        <span>
          Not up to date: {message}. Something here is of {clock(stale.at)}.{" "}
          {requestId && (
            <span className="small muted">
              Request <code>{requestId}</code>
            </span>
          )}
        </span>
        <Button small onClick={stale.retry}>
          Ask again
        </Button>
      </div>
    </Notice>
  );
}

export function Frame({ children }: { children: ReactNode }) {
  const page = useArrival();
  const menu = useMenu();
  const [searching, setSearching] = useState(false);
  const tenant = useTenantAtHand();
  const { platform_admin } = useMe();
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "k") {
        event.preventDefault();
        setSearching(true);
      }
    };
    window.addEventListener("keydown", key);
    return () => window.removeEventListener("keydown", key);
  }, []);
  return (
    <div className="shell">
      <a className="skip" href="#main">
        Skip to the page
      </a>
      <header className={menu.open ? "side open" : "side"} onKeyDown={menu.close}>
        <div className="top">
          <Link className="brand" to={tenant ? to.home(tenant.slug) : to.start()}>
            <img src={mark} alt="" width={22} height={22} />
            Cairn
          </Link>
          {tenant && <span className="where clip">{tenant.name}</span>}
          <button ref={menu.button} type="button" className="button plain" aria-expanded={menu.open} aria-controls="menu" onClick={menu.toggle}>
            Menu
          </button>
        </div>
        <div id="menu" className="menu">
          <TenantSwitch />
          {(tenant || platform_admin) && (
            <div className="switch">
              <Button small onClick={() => setSearching(true)} aria-keyshortcuts="Control+K">
                Go to… <span className="muted">Ctrl K</span>
              </Button>
            </div>
          )}
          <Navigation />
          <Foot />
        </div>
      </header>
      <div className="work">
        <main ref={page} id="main" tabIndex={-1}>
          <Stale />
          <Suspense fallback={<Loading />}>{children}</Suspense>
        </main>
      </div>
      {searching && <Palette onClose={() => setSearching(false)} />}
    </div>
  );
}

/** Of one tenant. Its key makes everything inside anew when another is entered. */
export function TenantFrame() {
  const tenant = useTenantOrNone();
  return (
    <Frame>
      {tenant ? (
        <Outlet key={tenant.slug} />
      ) : (
        <Empty page title="There is no such tenant">You do not belong to it, or the address is wrong. Choose one of yours on the left.</Empty>
      )}
    </Frame>
  );
}
