// Reads an OpenAPI or AsyncAPI document from standard input; prints what Redocly's rules find in it.
import { readFileSync } from "node:fs";
import { createConfig, lintFromString } from "@redocly/openapi-core";

const config = await createConfig({
  // All that is recommended, warnings as errors.
  extends: ["recommended-strict"],
  rules: {
    "info-contact": "error",
    "operation-description": "error",
    "operation-singular-tag": "error",
    "operation-tag-defined": "error",
    "operation-4xx-problem-details-rfc7807": "error",
    // It takes `/things/{id}` and `/things/{id}:verb` for the same path.
    "no-ambiguous-paths": "off",
  },
  async3Rules: {
    // Events tell what is said; who may connect to the bus is its operator's, by address.
    "security-defined": "off",
  },
});
const found = await lintFromString({
  source: readFileSync(0, "utf8"),
  absoluteRef: "/document.json",
  config,
});
process.stdout.write(
  JSON.stringify(
    found.map(({ ruleId, severity, message, location }) => ({
      severity,
      code: ruleId,
      at: location.map(({ pointer }) => pointer ?? "").join(" "),
      message,
    })),
  ),
);
