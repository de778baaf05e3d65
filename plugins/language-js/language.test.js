// node --test
import assert from "node:assert/strict";
import test from "node:test";
import { lifecycle, ranked, requestHook } from "./language-js.js";

test("the best liked language comes first", () => {
  assert.deepEqual(ranked("fr;q=0.5, de-AT, en;q=0.9, it;q=0"), ["de", "en", "fr"]);
  assert.deepEqual(ranked(""), []);
});

test("the first that the site has counts, else its own first", () => {
  lifecycle.configure('{"languages":["en","de"]}');
  const language = (field) => requestHook.onRequest({ inputs: [field] }).variants[0];
  assert.equal(language("fr, de-AT;q=0.8"), "language=de");
  assert.equal(language("fr"), "language=en");
  assert.equal(language(undefined), "language=en");
});

test("a site without languages is refused", () => {
  assert.throws(() => lifecycle.configure("{}"), (message) => message === "config: `languages` names none");
});
