// Reads an AsyncAPI document from standard input; prints what AsyncAPI's own parser finds in it.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const SEVERITIES = ["error", "warning", "information", "hint"];
const found = await new Parser().validate(readFileSync(0, "utf8"));
process.stdout.write(
  JSON.stringify(
    found.map(({ severity, code, path, message }) => ({
      severity: SEVERITIES[severity],
      code,
      at: path.join("/"),
      message,
    })),
  ),
);
