// What went wrong and what was asked of the network, for whoever tests the page.
(() => {
  const seen = document.documentElement.dataset;
  seen.errors = "";
  seen.refused = "";
  addEventListener("error", (event) => { seen.errors += `${event.message}; `; });
  addEventListener("unhandledrejection", (event) => { seen.errors += `${event.reason}; `; });
  addEventListener("securitypolicyviolation", (event) => { seen.refused += `${event.blockedURI}; `; });
})();
