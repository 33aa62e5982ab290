package autodiscover

import (
	"encoding/json"
	"errors"
)

// answer is what a server says about an e-mail address. At most one of the three is there.
type answer struct {
	// urls are EWS addresses, the most preferred first.
	urls []string
	// redirectURL is the Autodiscover address to ask instead, redirectAddress the e-mail address to ask about instead.
	redirectURL     string
	redirectAddress string
}

// Why an answer is of no use. None of them repeats what the server wrote.
var (
	errNotJSON = errors.New("answered with something that is no JSON document")
	errNotSOAP = errors.New("answered with something that is no answer to GetUserSettings")
	errNotPOX  = errors.New("answered with something that is no Autodiscover document")
	errNoURL   = errors.New("answered without an address of EWS")
	// errUnknownMailbox is what is told of a mailbox that is not there, and of one that the server does not want to tell.
	errUnknownMailbox = errors.New("does not know the mailbox")
	errServerBusy     = errors.New("is too busy to answer")
	errServerError    = errors.New("answered with an error")
)

// parseJSON reads the answer of Autodiscover v2 (ews.md, section 4).
func parseJSON(content []byte) (answer, error) {
	var document struct {
		Protocol string
		URL      string `json:"Url"`
	}
	if err := json.Unmarshal(content, &document); err != nil {
		return answer{}, errNotJSON
	}
	if document.URL == "" {
		return answer{}, errNoURL
	}
	return answer{urls: []string{document.URL}}, nil
}
