// The API reference: Swagger UI with this site's own OpenAPI document.
"use strict";

const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const applyScheme = () => document.documentElement.classList.toggle("dark-mode", darkScheme.matches);
darkScheme.addEventListener("change", applyScheme);
applyScheme();

const reference = document.getElementById("reference");

async function render() {
  const response = await fetch(reference.dataset.document);
  const spec = await response.json();
  // One bearer scheme for both: the user pastes an API key or an access token.
  const description = "An API key, `one_…`. To manage API keys, the access token of an owner or admin.";
  spec.components.securitySchemes = { bearer: { type: "http", scheme: "bearer", description } };
  for (const operation of Object.values(spec.paths).flatMap(Object.values)) operation.security = [{ bearer: [] }];
  SwaggerUIBundle({
    spec,
    domNode: reference,
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    docExpansion: "list",
    tryItOutEnabled: false,
    validatorUrl: null,
  });
}

render().catch(() => {
  reference.textContent = "The API reference could not be loaded. Reload the page in a moment.";
});
