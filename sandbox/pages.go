package sandbox

import "net/http"

func (p *Platform) pageHandler() http.Handler { return http.NotFoundHandler() }
