// What this browser can decode of a stream, by its tracks' codecs strings.

const NAMES = { avc1: "H.264", avc3: "H.264", hvc1: "H.265 (HEVC)", hev1: "H.265 (HEVC)", av01: "AV1", mp4a: "AAC", opus: "Opus", "ac-3": "AC-3", "ec-3": "E-AC-3" };

const format = (codec) => codec.split(".")[0];

/** Whether a track has pictures. */
export const isVideo = (track) => Boolean(track.width) || /^(avc|hvc|hev|av01|vp)/.test(track.codec ?? "");

/**
 * The codecs without which nothing is seen, or nothing heard, in words; null where the browser takes a track of each kind.
 * `native`: by the browser's own player, not by Media Source Extensions.
 */
export function undecodable(tracks, native = false) {
  const source = window.ManagedMediaSource ?? window.MediaSource;
  const takes = (track) => {
    const type = `${isVideo(track) ? "video" : "audio"}/mp4; codecs="${track.codec}"`;
    return native || !source ? document.createElement("video").canPlayType(type) !== "" : source.isTypeSupported(type);
  };
  const known = tracks.filter((track) => track.codec);
  const kinds = [known.filter(isVideo), known.filter((track) => !isVideo(track))];
  const missing = kinds.filter((kind) => kind.length > 0 && !kind.some(takes)).flat();
  const names = new Set(missing.map((track) => NAMES[format(track.codec)] ?? track.codec));
  return names.size > 0 ? [...names].join(" and ") : null;
}
