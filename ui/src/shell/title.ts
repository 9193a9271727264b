// The name of the page, in the window's title and for those who are read aloud to.
import { useEffect } from "react";

export function useTitle(title: string) {
  useEffect(() => {
    document.title = `${title} · Cairn`;
  }, [title]);
}
