// Changing something from a list: with a proof where one is needed, with the error beside the list, and asking anew afterwards.
import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { told } from "../api/client";
import { Button } from "../design/button";
import { Dialog } from "../design/dialog";
import { Failed } from "../design/state";
import { useWithProof } from "../session/proof";

/** Does a change, then asks for what begins with this key again. */
export function useChange(queryKey: unknown[]) {
  const client = useQueryClient();
  const withProof = useWithProof();
  const [failed, setFailed] = useState<unknown>();
  const change = async (work: () => Promise<unknown>): Promise<boolean> => {
    setFailed(undefined);
    try {
      await withProof(work);
      return true;
    } catch (error) {
      setFailed(error);
      return false;
    } finally {
      await client.invalidateQueries({ queryKey });
    }
  };
  return { change, failed, failure: failed === undefined ? null : <Failed {...told(failed)} /> };
}

interface ConfirmProps {
  title: string;
  /** What happens, and that it cannot be taken back. */
  children: ReactNode;
  action: string;
  onConfirm: () => void;
  onClose: () => void;
}

/** Before something that cannot be taken back. */
export function Confirm({ title, children, action, onConfirm, onClose }: ConfirmProps) {
  return (
    <Dialog
      title={title}
      onClose={onClose}
      onSubmit={() => {
        onClose();
        onConfirm();
      }}
    >
      <p>{children}</p>
      <div className="actions">
        <Button onClick={onClose}>Cancel</Button>
        <Button kind="danger" type="submit">
          {action}
        </Button>
      </div>
    </Dialog>
  );
}
