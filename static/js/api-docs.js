// The API reference: Swagger UI over our own OpenAPI document, asked of the site that shows it.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

const reference = document.getElementById("reference");

async function show() {
  const answer = await fetch(reference.dataset.document);
  const spec = await answer.json();
  spec.servers = [{ url: location.origin }];
  // Here a key and an access token are pasted alike.
  const description = "An API key, `one_…`. For managing API keys, an access token of an owner or admin.";
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

show().catch(() => {
  reference.textContent = "The reference can't be loaded for the moment. Reload the page in a while.";
});
