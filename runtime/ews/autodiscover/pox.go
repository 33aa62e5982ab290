package autodiscover

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/ens-operator/ens-operator/runtime/ews/internal/soap"
)

// The schemas of the plain XML form (POX). They are http:// whatever some web pages say (ews.md, section 0).
const (
	poxRequestSchema  = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"
	poxResponseSchema = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
)

// Real documents are at most 8 deep.
const maxPOXDepth = 32

func poxRequest(address string) []byte {
	return []byte(`<?xml version="1.0" encoding="utf-8"?>` +
		`<Autodiscover xmlns="` + poxRequestSchema + `"><Request><EMailAddress>` + soap.Escape(address) + `</EMailAddress>` +
		`<AcceptableResponseSchema>` + poxResponseSchema + `</AcceptableResponseSchema></Request></Autodiscover>`)
}

// poxDocument is an answer. Response is in a namespace of its own, which differs between settings and errors.
type poxDocument struct {
	XMLName  xml.Name `xml:"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006 Autodiscover"`
	Response struct {
		Error *struct {
			Code string `xml:"ErrorCode"`
		}
		Account *poxAccount
	}
}

type poxAccount struct {
	Action       string
	RedirectURL  string `xml:"RedirectUrl"`
	RedirectAddr string
	Protocols    []poxProtocol `xml:"Protocol"`
}

// poxProtocol is a way to a mailbox: EXPR from outside, EXCH from inside, WEB by browser, which holds others.
type poxProtocol struct {
	Type string
	// TypeAttribute is where mapiHttp has its type.
	TypeAttribute string        `xml:"Type,attr"`
	EWSURL        string        `xml:"EwsUrl"`
	ASURL         string        `xml:"ASUrl"`
	External      []poxProtocol `xml:"External>Protocol"`
	Internal      []poxProtocol `xml:"Internal>Protocol"`
}

// poxUnknownMailbox is the code of the one error that an administrator can do something about.
const poxUnknownMailbox = "500"

// parsePOX reads an answer of the plain XML form.
func parsePOX(content []byte) (answer, error) {
	if !plainXML(content) {
		return answer{}, errNotPOX
	}
	var document poxDocument
	if err := xml.Unmarshal(content, &document); err != nil {
		return answer{}, errNotPOX
	}
	account := document.Response.Account
	switch failure := document.Response.Error; {
	case failure != nil && strings.TrimSpace(failure.Code) == poxUnknownMailbox:
		return answer{}, errUnknownMailbox
	case failure != nil:
		return answer{}, errServerError
	case account == nil:
		return answer{}, errNotPOX
	}
	switch strings.ToLower(strings.TrimSpace(account.Action)) {
	case "redirecturl":
		target := strings.TrimSpace(account.RedirectURL)
		return redirected(answer{redirectURL: target}, target)
	case "redirectaddr":
		target := strings.TrimSpace(account.RedirectAddr)
		return redirected(answer{redirectAddress: target}, target)
	}
	return poxSettings(account.Protocols)
}

// poxSettings collects the addresses: EwsUrl of EXPR, of EXCH, of any other, and then the older ASUrl in the same order.
func poxSettings(protocols []poxProtocol) (answer, error) {
	ranked := slices.Clone(protocols)
	slices.SortStableFunc(ranked, func(a, b poxProtocol) int { return a.rank() - b.rank() })
	for _, protocol := range protocols {
		ranked = append(append(ranked, protocol.External...), protocol.Internal...)
	}
	var found answer
	for _, urlOf := range []func(poxProtocol) string{
		func(p poxProtocol) string { return p.EWSURL },
		func(p poxProtocol) string { return p.ASURL },
	} {
		for _, protocol := range ranked {
			if text := strings.TrimSpace(urlOf(protocol)); text != "" {
				found.urls = append(found.urls, text)
			}
		}
	}
	if len(found.urls) == 0 {
		return found, errNoURL
	}
	return found, nil
}

func (p poxProtocol) rank() int {
	order := []string{"EXPR", "EXCH"}
	for rank, name := range order {
		if strings.EqualFold(strings.TrimSpace(p.Type), name) || strings.EqualFold(p.TypeAttribute, name) {
			return rank
		}
	}
	return len(order)
}

// plainXML checks that content is one well-formed element, not too deep, without a document type declaration and
// processing instructions, before anything is made of it.
func plainXML(content []byte) bool {
	decoder := xml.NewDecoder(bytes.NewReader(content))
	depth, roots := 0, 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return roots == 1
		}
		if err != nil {
			return false
		}
		switch token := token.(type) {
		case xml.StartElement:
			if depth == 0 {
				roots++
			}
			depth++
		case xml.EndElement:
			depth--
		case xml.Directive:
			return false
		case xml.ProcInst:
			if token.Target != "xml" {
				return false
			}
		}
		if depth > maxPOXDepth || roots > 1 {
			return false
		}
	}
}
