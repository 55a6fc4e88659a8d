// Package upload reads the one part of a multipart upload that WeChat Pay has
// signed: meta, a JSON object that names the file and its digest.
//
// The reader is strict on purpose, and looks at the body only: the bytes are
// forwarded as they came. What could be read in two ways (two meta parts, a
// preamble, a boundary that begins another line) is refused, so that what is
// signed here is what WeChat Pay checks.
package upload
