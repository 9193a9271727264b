// Where the console begins.
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import "./design/index.css";
import "./shell/shell.css";
import "./pages/login/login.css";
import { Console } from "./console";
import { showTheme } from "./shell/theme";

showTheme();
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Console />
    </StrictMode>,
  );
}
