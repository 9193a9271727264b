// A question above the page. The browser's own dialog holds the focus inside and gives it back.
import { type FormEvent, type ReactNode, useId, useLayoutEffect, useRef, useState } from "react";
import { Sending } from "./button";

interface DialogProps {
  title: string;
  onClose: () => void;
  /** With it the dialog is a form. While a promise of it is open, the form is sent no second time. */
  onSubmit?: () => unknown;
  children: ReactNode;
}

export function Dialog({ title, onClose, onSubmit, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const sending = useRef(false);
  const [busy, setBusy] = useState(false);
  // It has to close while it is still in the page: what is taken out of it gives no focus back.
  useLayoutEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => shown?.close();
  }, []);
  const inside = (
    <>
      <h2 id={id}>{title}</h2>
      {children}
    </>
  );
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (sending.current) return;
    sending.current = true;
    setBusy(true);
    try {
      await onSubmit?.();
    } finally {
      sending.current = false;
      setBusy(false);
      // Of a long form the button is far below what says why it was refused.
      requestAnimationFrame(() => dialog.current?.querySelector("[role=alert]")?.scrollIntoView({ block: "nearest" }));
    }
  };
  return (
    <dialog
      ref={dialog}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      {onSubmit ? (
        <form onSubmit={(event) => void submit(event)}>
          <Sending.Provider value={busy}>{inside}</Sending.Provider>
        </form>
      ) : (
        <div className="inside">{inside}</div>
      )}
    </dialog>
  );
}
