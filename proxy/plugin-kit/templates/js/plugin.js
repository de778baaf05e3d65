// One stored page for each language: visitors whose browsers ask for the same one share it, however they ask.

let languages = ["en", "de"];

export const lifecycle = {
  // Called once. What is thrown refuses the configuration.
  configure(config) {
    languages = JSON.parse(config).languages ?? languages;
    return {
      name: "NAME",
      version: "0.1.0",
      // What is not declared here is not there for the plugin.
      inputs: [{ tag: "header", val: "accept-language" }],
      responseHeaders: [],
      pure: true, // the same values give the same decision, so it is remembered
      buckets: [],
    };
  },
};

export const requestHook = {
  onRequest(request) {
    const wanted = (request.inputs[0] ?? "").split(",").map((range) => range.split(/[;-]/)[0].trim().toLowerCase());
    const language = wanted.find((name) => languages.includes(name)) ?? languages[0];
    return { mode: "lookup", variants: [`language=${language}`] };
  },
};
