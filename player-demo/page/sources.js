// Where the players come from: the binary, or a public CDN at the same version and under a hash.
import { EMBEDDED } from "./build.js";

/** Versions as in package-lock.json (a test compares them); hashes of the files as npm packs them. */
const SOURCES = {
  hls: {
    embedded: "/player/lib/hls.js",
    cdn: "https://cdn.jsdelivr.net/npm/hls.js@1.7.4/dist/hls.min.js",
    integrity: "sha384-p9vgU/7IYJWd3I4STrtqxqR/2cAQlhIX7D/HrTnIMEjjcUox165b7se7sxmm3zDg",
    global: "Hls",
  },
  shaka: {
    embedded: "/player/lib/shaka.js",
    cdn: "https://cdn.jsdelivr.net/npm/shaka-player@5.2.12/dist/shaka-player.compiled-es2021.js",
    integrity: "sha384-9EkOuL/PpWVFXLr2lJtjnaRCO35EZutZVFEn8QLpbaVfHm1wAPRTg0/3Vc4NlzRh",
    global: "shaka",
  },
  dash: {
    embedded: "/player/lib/dash.js",
    cdn: "https://cdn.jsdelivr.net/npm/dashjs@5.2.1/dist/modern/umd/dash.mediaplayer.min.js",
    integrity: "sha384-Jcki1Hfil8KEdDKI6Q8umDXlik6GBZ+oiY3Bj3JLH12m3vJWaV6NApw5Z2oLpVTG",
    global: "dashjs",
  },
};

export { EMBEDDED };

const loading = new Map();

/**
 * Loads a player's library once and gives its global.
 * @param {keyof typeof SOURCES} name
 */
export function library(name) {
  if (!loading.has(name)) {
    const attempt = load(SOURCES[name]);
    attempt.catch(() => loading.delete(name)); // a network that was away may be back at the next try
    loading.set(name, attempt);
  }
  return loading.get(name);
}

function load({ embedded, cdn, integrity, global }) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    if (EMBEDDED) {
      script.src = embedded;
    } else {
      script.src = cdn;
      script.integrity = integrity;
      script.crossOrigin = "anonymous";
    }
    script.onload = () => resolve(window[global]);
    script.onerror = () => {
      script.remove();
      reject(new Error(`the player's library could not be loaded from ${script.src}`));
    };
    document.head.append(script);
  });
}
