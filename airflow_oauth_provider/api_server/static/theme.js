// Before the page is drawn: the colours that were chosen in Airflow's own pages, else those of the system.
"use strict";
(() => {
  let theme = null;
  try {
    theme = window.localStorage.getItem("theme");
  } catch {
    // Storage may be forbidden.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
