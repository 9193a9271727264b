// When a session ends while a form is open. What was typed is kept for whoever typed it: all that is shown is taken out of the document, so that
// nothing of it can be seen or read there, and is put back as it was when the same user has signed in again. Whoever else signs in, here or in
// another tab, begins anew, and so does everybody after a sign-out. It is kept in the memory of this page only, and not for ever.
import { onlineManager, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useState } from "react";
import { createRoot, type Root } from "react-dom/client";
import { api, take } from "../api/client";
import { Button } from "../design/button";
import { FirstStep, SecondStep } from "../pages/login/login";
import { to } from "../paths";
import { hide, isEnded, leave, ME, type Me, onOtherTabs } from "./me";

/** How long it is kept: a day at work. */
const KEPT_MS = 8 * 3_600_000;

/** What somebody typed into, or chose in. */
const typed = new Set<Element>();
document.addEventListener("input", ({ target }) => {
  for (const element of typed) if (!element.isConnected) typed.delete(element);
  if (target instanceof Element) typed.add(target);
});

/** Whether there is something to be lost: a question is open, or a form was typed into. A filter is in the address. */
function isForm(): boolean {
  if (document.querySelector("#root dialog[open]")) return true;
  return [...typed].some((it) => it.isConnected && it.matches("textarea, form:not([role=search]) :is(input:not([type=search]), select)"));
}

interface Kept {
  me: Me;
  client: QueryClient;
  shown: HTMLElement;
  dialogs: HTMLDialogElement[];
  focus: Element | null;
  top: number;
  title: string;
  gate: HTMLElement;
  root: Root;
  timer: ReturnType<typeof setTimeout>;
  ends: () => void;
  /** Told when all is as it was; `false`: somebody did not sign in, and goes on. */
  then: (signedIn: boolean) => void;
}

let kept: Kept | undefined;

/** The tenant whose page is open, for who is signed in. */
function standing({ id, platform_admin, tenants }: Me): string {
  const slug = /^\/t\/([^/]+)/.exec(window.location.pathname)?.[1];
  const here = tenants.filter((tenant) => encodeURIComponent(tenant.slug) === slug);
  return JSON.stringify([id, platform_admin, here]);
}

/** Nobody is signed in any more. `me`: who was. */
export function lock(client: QueryClient, me: Me) {
  const { pathname, search } = window.location;
  if (kept) kept.root.render(<Gates me={kept.me} why="ended" />);
  else if (isForm()) keep(client, me, "ended", () => {});
  else leave(pathname + search, true);
}

/** Asks somebody who is signed in to do so once more, which proves anew who they are. Whether they did; another user begins anew. */
export const signInAgain = (client: QueryClient, me: Me) => new Promise<boolean>((then) => keep(client, me, "proof", then));

type Why = "ended" | "proof";

function keep(client: QueryClient, me: Me, why: Why, then: (signedIn: boolean) => void) {
  const shown = document.getElementById("root");
  const { pathname, search } = window.location;
  if (!shown || kept) return;
  // Nothing is asked for meanwhile, by whoever is signed in then.
  onlineManager.setOnline(false);
  const gate = document.createElement("div");
  const was = {
    dialogs: [...shown.querySelectorAll<HTMLDialogElement>("dialog:modal")],
    focus: document.activeElement,
    top: window.scrollY,
    title: document.title,
  };
  shown.replaceWith(gate);
  const root = createRoot(gate);
  const timer = setTimeout(() => leave(pathname + search, true), KEPT_MS);
  const ends = onOtherTabs((holder) => {
    // Another page of the same session proves nothing anew.
    if (why === "proof" && holder?.session === me.session) return;
    if (holder?.user === me.id) void look();
    else begin();
  });
  kept = { me, client, shown, gate, root, timer, ends, then, ...was };
  root.render(<Gates me={me} why={why} />);
}

export const isLocked = () => kept !== undefined;

/** Somebody else is there: everything begins anew, and no step back leads here. */
function begin() {
  kept?.root.unmount();
  window.location.replace(to.start());
}

/** Somebody has signed in. */
async function look() {
  const now = await take(api.GET("/api/v1/me")).catch((error: unknown) => {
    if (isEnded(error)) kept?.root.render(<Gates me={kept.me} why="ended" />);
  });
  if (!now || !kept) return;
  const limited = now.must_change_password || now.must_add_second_factor;
  if (limited || standing(now) !== standing(kept.me)) return begin();
  goOn(now, now.session !== kept.me.session);
}

/** All is as it was. */
function goOn(now: Me, signedIn: boolean) {
  if (!kept) return;
  const { client, shown, gate, root, timer, ends, then, dialogs, focus, top, title } = kept;
  kept = undefined;
  clearTimeout(timer);
  ends();
  root.unmount();
  gate.replaceWith(shown);
  for (const dialog of dialogs) {
    // Taken out of the document it is open, and no question above the page any more.
    dialog.removeAttribute("open");
    dialog.showModal();
  }
  document.title = title;
  window.scrollTo(0, top);
  if (focus instanceof HTMLElement) focus.focus({ preventScroll: true });
  client.setQueryData(ME, now);
  onlineManager.setOnline(true);
  void client.invalidateQueries();
  then(signedIn);
}

interface GatesProps {
  me: Me;
  why: Why;
}

const signIns = new QueryClient({ defaultOptions: { queries: { networkMode: "always" } } });

function Gates(props: GatesProps) {
  return (
    <QueryClientProvider client={signIns}>
      <SignInAgain {...props} />
    </QueryClientProvider>
  );
}

function SignInAgain({ me, why: ended }: GatesProps) {
  const [methods, setMethods] = useState<string[] | null>(null);
  const was = me.email ?? undefined;
  if (methods) return <SecondStep methods={methods} onDone={() => void look()} onBack={() => setMethods(null)} />;
  const why = ended === "proof" ? (
    <>
      Sign in as {was} once more. What is open goes on after it.
      <div className="row">
        <Button kind="quiet" small onClick={() => void look()}>
          Go back without
        </Button>
      </div>
    </>
  ) : (
    <>
      Your session ended. What you typed is kept, out of sight: sign in as {was} again, and it goes on as it was. For anybody else it is gone.
      <div className="row">
        <Button kind="quiet" small onClick={() => leave()}>
          Throw it away
        </Button>
      </div>
    </>
  );
  return <FirstStep next={to.start()} error={null} why={why} was={was} byPassword={me.has_password !== false} stays onSecondStep={setMethods} onDone={() => void look()} />;
}

/** What a page does when another tab says whose session it is. */
export function followTabs(client: QueryClient, me: Me): () => void {
  return onOtherTabs((holder) => {
    if (kept || holder?.session === me.session) return;
    if (holder?.user === me.id) return void client.invalidateQueries({ queryKey: ME });
    hide();
    window.location.reload();
  });
}
