package autodiscover_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover"
	"github.com/ens-operator/ens-operator/runtime/ews/autodiscover/autodiscovertest"
)

// redirections are all the ways in which a server can lead elsewhere.
var redirections = map[string]func(s *scene, target string){
	"JSON by status": func(s *scene, target string) {
		s.faulty(auto, autodiscovertest.JSON, autodiscovertest.Fault{Status: http.StatusFound, Location: target})
	},
	"SOAP by status": func(s *scene, target string) {
		s.faulty(auto, autodiscovertest.SOAP, autodiscovertest.Fault{Status: http.StatusTemporaryRedirect, Location: target})
	},
	"plain XML by status": func(s *scene, target string) {
		s.faulty(auto, autodiscovertest.POX, autodiscovertest.Fault{Status: http.StatusMovedPermanently, Location: target})
	},
	"SOAP in its answer": func(s *scene, target string) {
		s.faulty(auto, autodiscovertest.SOAP, autodiscovertest.Fault{RedirectURL: target})
	},
	"plain XML in its answer": func(s *scene, target string) {
		s.faulty(auto, autodiscovertest.POX, autodiscovertest.Fault{RedirectURL: target})
	},
	"plain HTTP": func(s *scene, target string) {
		s.AddHost(auto, autodiscovertest.Host{Redirect: target})
	},
}

func TestRedirectsWithinTheDomainAreFollowed(t *testing.T) {
	t.Parallel()
	paths := map[string]string{
		"JSON by status":      "/autodiscover/autodiscover.json?Email=alice.adams%40example.com&Protocol=EWS&RedirectCount=2",
		"SOAP by status":      "/Autodiscover/Autodiscover.svc",
		"SOAP in its answer":  "/autodiscover/autodiscover.svc",
		"plain XML by status": "/AutoDiscover/AutoDiscover.xml",
	}
	for name, redirect := range redirections {
		for _, host := range []string{"cas.example.com", "CAS.Example.com:443"} {
			t.Run(name+" to "+host, func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				path := paths[name]
				if path == "" {
					path = "/autodiscover/autodiscover.xml"
				}
				redirect(s, "https://"+host+path)
				s.host("cas.example.com", autodiscovertest.AllForms...)
				if endpoint, err := s.findAlice(t); err != nil || endpoint != "mail" {
					t.Errorf("got %q, %v", endpoint, err)
				}
			})
		}
	}
}

func TestHostileRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	targets := map[string]string{
		"plain HTTP":                        "http://cas.example.com/autodiscover/autodiscover.xml",
		"an IP address":                     "https://127.0.0.1/autodiscover/autodiscover.xml",
		"an IPv6 address":                   "https://[::1]/autodiscover/autodiscover.xml",
		"an IP address as one number":       "https://2130706433/autodiscover/autodiscover.xml",
		"another host":                      "https://evil.net/autodiscover/autodiscover.xml",
		"the domain in front of another":    "https://example.com.evil.net/autodiscover/autodiscover.xml",
		"a look-alike":                      "https://evilexample.com/autodiscover/autodiscover.xml",
		"a look-alike in another script":    "https://exаmple.com/autodiscover/autodiscover.xml", // the а is Cyrillic
		"the domain as a user name":         "https://autodiscover.example.com@evil.net/autodiscover/autodiscover.xml",
		"an allowed host with a user name":  "https://user:pw@cas.example.com/autodiscover/autodiscover.xml",
		"another port":                      "https://cas.example.com:8443/autodiscover/autodiscover.xml",
		"the port of plain HTTP":            "https://cas.example.com:80/autodiscover/autodiscover.xml",
		"the root's dot":                    "https://cas.example.com./autodiscover/autodiscover.xml",
		"another host with the root's dot":  "https://evil.net./autodiscover/autodiscover.xml",
		"a backslash before the allowed":    `https://evil.net\.example.com/`,
		"a backslash before an @":           `https://evil.net\@cas.example.com/`,
		"another scheme":                    "ftp://cas.example.com/",
		"no host":                           "https:///autodiscover/autodiscover.xml",
		"another host without a scheme":     "//evil.net/autodiscover/autodiscover.xml",
		"no address at all":                 "%%% server's own words %%%",
		"an opaque address":                 "https:cas.example.com",
		"a name with an escape in it":       "https://evil.net%2f.example.com/",
		"a name with a line break":          "https://evil.net\n.example.com/",
		"an empty label":                    "https://.example.com/autodiscover/autodiscover.xml",
		"an empty label in between":         "https://evil..example.com/autodiscover/autodiscover.xml",
		"an overlong label":                 "https://" + strings.Repeat("evil", 16) + ".example.com/autodiscover/autodiscover.xml",
		"a subdomain of a sibling":          "https://autodiscover.example.com.example.org/",
		"the top-level domain":              "https://com/autodiscover/autodiscover.xml",
		"an allowed host behind a question": "https://evil.net?.example.com/",
		"an allowed host behind a fragment": "https://evil.net#.example.com/",
	}
	for way, redirect := range redirections {
		for name, target := range targets {
			t.Run(way+" to "+name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				redirect(s, target)
				// Whoever followed would find the endpoint there.
				for _, host := range []string{"cas.example.com", "evil.net", "example.com.evil.net", "evilexample.com"} {
					s.host(host, autodiscovertest.AllForms...)
				}
				_, err := s.findAlice(t)
				if !errors.Is(err, autodiscover.ErrNotLocated) {
					t.Errorf("got %v", err)
				}
				if err != nil && strings.Contains(err.Error(), "evil") {
					t.Errorf("the error repeats what the server wrote: %v", err)
				}
				for _, r := range s.Requests() {
					if r.Host != auto {
						t.Errorf("%s was asked", r.Host)
					}
				}
			})
		}
	}
}

func TestOnlyA302OverPlainHTTPCounts(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusOK, http.StatusMovedPermanently, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.AddHost(auto, autodiscovertest.Host{Redirect: "https://cas.example.com/autodiscover/autodiscover.xml", RedirectStatus: status})
			s.host("cas.example.com", autodiscovertest.AllForms...)
			if _, err := s.findAlice(t); !errors.Is(err, autodiscover.ErrNotLocated) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestHostileServiceRecordsAreNotFollowed(t *testing.T) {
	t.Parallel()
	for name, record := range map[string]struct {
		target string
		port   uint16
	}{
		"another host":                   {"evil.net", 443},
		"the domain in front of another": {"example.com.evil.net", 443},
		"a look-alike":                   {"evilexample.com", 443},
		"another port":                   {"cas.example.com", 8443},
		"an IP address":                  {"127.0.0.1", 443},
		"the service is not there":       {"", 443},
		"two dots at the end":            {"cas.example.com.", 443},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.AddSRV(domain, record.target, record.port)
			for _, host := range []string{"cas.example.com", "evil.net", "example.com.evil.net", "evilexample.com"} {
				s.host(host, autodiscovertest.AllForms...)
			}
			if _, err := s.findAlice(t); !errors.Is(err, autodiscover.ErrNotLocated) {
				t.Errorf("got %v", err)
			}
			if requests := s.Requests(); len(requests) > 0 {
				t.Errorf("%d requests were sent", len(requests))
			}
		})
	}
}

func TestAnotherAddressIsAskedAboutWithinTheDomains(t *testing.T) {
	t.Parallel()
	const moved = "alice@moved.example.com"
	for _, form := range []autodiscovertest.Form{autodiscovertest.SOAP, autodiscovertest.POX} {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.faulty(auto, form, autodiscovertest.Fault{RedirectAddress: moved})
			s.host("autodiscover.moved.example.com", autodiscovertest.SOAP)
			s.AddUser(autodiscovertest.User{Address: moved, Password: "unused", EWSURL: secondURL})
			if endpoint, err := s.findAlice(t); err != nil || endpoint != "second" {
				t.Fatalf("got %q, %v", endpoint, err)
			}
			for _, r := range s.Requests() {
				if strings.Contains(r.Host, "moved") && r.Address != "" && r.Address != moved {
					t.Error("the new host was asked about the old address")
				}
			}
			// What holds for Alice's moved mailbox does not hold for Bob's.
			s.host(auto, form)
			if endpoint, err := s.findBob(t); err != nil || endpoint != "mail" {
				t.Errorf("Bob got %q, %v", endpoint, err)
			}
			// It holds for whom else is led to that domain, and for who is of it.
			asked := len(s.Requests())
			if endpoint, err := s.find(t, "carol@moved.example.com", basic("carol", "x"), false); err != nil || endpoint != "second" || len(s.Requests()) > asked {
				t.Errorf("Carol got %q, %v", endpoint, err)
			}
		})
	}
}

func TestWhoIsLedToAKnownDomainNeedNotAskIt(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.host("autodiscover.moved.example.com", autodiscovertest.JSON)
	s.AddUser(autodiscovertest.User{Address: "carol@moved.example.com", EWSURL: secondURL})
	if endpoint, err := s.find(t, "carol@moved.example.com", basic("carol", "x"), false); err != nil || endpoint != "second" {
		t.Fatalf("Carol got %q, %v", endpoint, err)
	}
	s.faulty(auto, autodiscovertest.SOAP, autodiscovertest.Fault{RedirectAddress: "alice@moved.example.com"})
	asked := len(s.Requests())
	if endpoint, err := s.findAlice(t); err != nil || endpoint != "second" {
		t.Errorf("Alice got %q, %v", endpoint, err)
	}
	for _, r := range s.Requests()[asked:] {
		if r.Host != auto {
			t.Errorf("%s was asked", r.Host)
		}
	}
}

func TestHostileAddressesAreNotAskedAbout(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]string{
		"another domain":  "alice@evil.net",
		"a look-alike":    "alice@evilexample.com",
		"no address":      "server's own words",
		"the same":        alice,
		"the same louder": strings.ToUpper(alice),
		"an IP address":   "alice@[127.0.0.1]",
	} {
		for _, form := range []autodiscovertest.Form{autodiscovertest.SOAP, autodiscovertest.POX} {
			t.Run(name+" by "+string(form), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				s.faulty(auto, form, autodiscovertest.Fault{RedirectAddress: address})
				s.host("evil.net", autodiscovertest.AllForms...)
				if _, err := s.findAlice(t); !errors.Is(err, autodiscover.ErrNotLocated) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

func TestCirclesEnd(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(s *scene){
		"a host that leads to itself": func(s *scene) {
			s.faulty(auto, autodiscovertest.SOAP, autodiscovertest.Fault{Status: http.StatusFound, Location: "https://" + auto + "/autodiscover/autodiscover.svc"})
		},
		"two hosts that lead to each other": func(s *scene) {
			s.faulty(bare, autodiscovertest.POX, autodiscovertest.Fault{RedirectURL: "https://" + auto + "/autodiscover/autodiscover.xml"})
			s.faulty(auto, autodiscovertest.POX, autodiscovertest.Fault{RedirectURL: "https://" + bare + "/autodiscover/autodiscover.xml"})
		},
		"two addresses that lead to each other": func(s *scene) {
			s.faulty(auto, autodiscovertest.POX, autodiscovertest.Fault{RedirectAddress: "alice@other.example.com"})
			s.faulty("autodiscover.other.example.com", autodiscovertest.SOAP, autodiscovertest.Fault{RedirectAddress: alice})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			set(s)
			_, err := s.findAlice(t)
			if !errors.Is(err, autodiscover.ErrNotLocated) || !strings.Contains(err.Error(), "in a circle") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// chain makes hosts that lead from one to the next by redirects of status 302, and the last one to the endpoint.
func chain(s *scene, form autodiscovertest.Form, path string, hops int) {
	for i := range hops {
		next := fmt.Sprintf("https://hop%d.example.com%s", i+1, path)
		name := fmt.Sprintf("hop%d.example.com", i)
		if i == 0 {
			name = auto
		}
		s.faulty(name, form, autodiscovertest.Fault{Status: http.StatusFound, Location: next})
	}
	s.host(fmt.Sprintf("hop%d.example.com", hops), form)
}

func TestTenRedirectsAreFollowedAndNoMore(t *testing.T) {
	t.Parallel()
	const limit = 10
	for form, path := range map[autodiscovertest.Form]string{
		autodiscovertest.JSON: "/autodiscover/autodiscover.json?Email=alice.adams%40example.com&Protocol=EWS",
		autodiscovertest.SOAP: "/autodiscover/autodiscover.svc",
	} {
		t.Run(string(form), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			chain(s, form, path, limit)
			if endpoint, err := s.findAlice(t); err != nil || endpoint != "mail" {
				t.Errorf("after ten got %q, %v", endpoint, err)
			}
			s = newScene(t)
			chain(s, form, path, limit+1)
			_, err := s.findAlice(t)
			if !errors.Is(err, autodiscover.ErrNotLocated) || !strings.Contains(err.Error(), "more than 10") {
				t.Errorf("after eleven got %v", err)
			}
			asked := s.asked()
			if last := asked[len(asked)-1]; last != fmt.Sprintf("hop%d.example.com %s", limit, form) {
				t.Errorf("after the last redirect %s was asked", last)
			}
		})
	}
}

func TestTheRedirectsOfAllStepsAreCountedTogether(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	// Six by JSON that lead nowhere, and five by SOAP that would lead to the endpoint.
	for i := range 6 {
		name := fmt.Sprintf("json%d.example.com", i)
		if i == 0 {
			name = bare
		}
		s.faulty(name, autodiscovertest.JSON, autodiscovertest.Fault{Status: http.StatusFound, Location: fmt.Sprintf("https://json%d.example.com/autodiscover/autodiscover.json", i+1)})
	}
	s.host("json6.example.com")
	chain(s, autodiscovertest.SOAP, "/autodiscover/autodiscover.svc", 5)
	if _, err := s.findAlice(t); !errors.Is(err, autodiscover.ErrNotLocated) || !strings.Contains(err.Error(), "more than 10") {
		t.Errorf("got %v", err)
	}
}

func TestCertificatesAreVerifiedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		certificate autodiscovertest.Certificate
		words       string
	}{
		"another name":         {autodiscovertest.CertificateOfOtherName, "is for other names"},
		"an unknown authority": {autodiscovertest.CertificateOfUnknownAuthority, "of an authority that is not trusted"},
		"expired":              {autodiscovertest.CertificateExpired, "has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.AddHost(auto, autodiscovertest.Host{Forms: autodiscovertest.AllForms, Certificate: test.certificate})
			_, err := s.findAlice(t)
			if !errors.Is(err, autodiscover.ErrNotLocated) || !strings.Contains(err.Error(), test.words) {
				t.Errorf("got %v", err)
			}
			if requests := s.Requests(); len(requests) > 0 {
				t.Errorf("%d requests were sent", len(requests))
			}
		})
	}
}

func TestAnswersThatAreOfNoUse(t *testing.T) {
	t.Parallel()
	const (
		bomb = `<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "server's own words"><!ENTITY b "&a;&a;&a;&a;">]>` +
			`<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response><Account><Protocol><Type>EXPR</Type><EwsUrl>` + mailURL + `</EwsUrl></Protocol></Account></Response></Autodiscover>`
		maxAnswer = 256 << 10
	)
	valid := `{"Protocol":"EWS","Url":"` + mailURL + `"}`
	contents := map[string][]byte{
		"garbage":                   []byte("\x00\xffserver's own words\x80"),
		"a web page":                []byte("<html><body>Welcome, server's own words<br></body></html>"),
		"nothing":                   {},
		"an empty object":           []byte(`{}`),
		"an empty document":         []byte(`<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"/>`),
		"entities that multiply":    []byte(bomb),
		"a very deep document":      []byte(strings.Repeat("<a>", 20_000) + strings.Repeat("</a>", 20_000)),
		"a very deep array":         []byte(strings.Repeat("[", 100_000)),
		"an answer that is too big": append([]byte(valid), bytes.Repeat([]byte(" "), maxAnswer)...),
		"the namespaces of the documentation": []byte(`<Autodiscover xmlns="https://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response><Account>` +
			`<Protocol><Type>EXPR</Type><EwsUrl>` + mailURL + `</EwsUrl></Protocol></Account></Response></Autodiscover>`),
	}
	for name, content := range contents {
		for _, form := range autodiscovertest.AllForms {
			t.Run(name+" as "+string(form), func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				s.faulty(auto, form, autodiscovertest.Fault{Content: content})
				if _, err := s.findAlice(t); !errors.Is(err, autodiscover.ErrNotLocated) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
	t.Run("the biggest answer that is read", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		s.faulty(auto, autodiscovertest.JSON, autodiscovertest.Fault{Content: append([]byte(valid), bytes.Repeat([]byte(" "), maxAnswer-len(valid))...)})
		if endpoint, err := s.findAlice(t); err != nil || endpoint != "mail" {
			t.Errorf("got %q, %v", endpoint, err)
		}
	})
}

func TestARefusedCredentialGoesToTwoHostsAtMost(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	endless := autodiscovertest.Fault{RefuseCredentials: true}
	for _, name := range []string{bare, auto, "cas.example.com"} {
		s.AddHost(name, autodiscovertest.Host{
			Forms:    []autodiscovertest.Form{autodiscovertest.SOAP, autodiscovertest.POX},
			Faults:   map[autodiscovertest.Form]autodiscovertest.Fault{autodiscovertest.SOAP: endless, autodiscovertest.POX: endless},
			Redirect: "https://cas.example.com/autodiscover/autodiscover.xml",
		})
	}
	_, err := s.findAlice(t)
	if !errors.Is(err, autodiscover.ErrUnauthorized) || errors.Is(err, autodiscover.ErrNotLocated) {
		t.Fatalf("got %v", err)
	}
	attempts := make(map[string]int)
	for _, r := range s.Requests() {
		if r.HadCredential {
			attempts[r.Host]++
		}
	}
	if len(attempts) != 2 || attempts[bare] != 1 || attempts[auto] != 1 {
		t.Errorf("the credential was sent to %v", attempts)
	}
}

func TestOneHostThatTakesTheCredentialIsEnough(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.faulty(bare, autodiscovertest.SOAP, autodiscovertest.Fault{RefuseCredentials: true})
	s.host(auto, autodiscovertest.SOAP)
	if endpoint, err := s.findAlice(t); err != nil || endpoint != "mail" {
		t.Errorf("got %q, %v", endpoint, err)
	}
	// A host that takes it but does not know the mailbox is no reason to call the credential wrong.
	s = newScene(t)
	s.faulty(bare, autodiscovertest.SOAP, autodiscovertest.Fault{RefuseCredentials: true})
	s.host(auto, autodiscovertest.SOAP)
	_, err := s.find(t, "alicia@example.com", basic(`EXAMPLE\alice`, alicePassword), false)
	if !errors.Is(err, autodiscover.ErrNotLocated) || errors.Is(err, autodiscover.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
}

func TestAWrongPasswordIsToldApart(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.host(auto, autodiscovertest.SOAP, autodiscovertest.POX)
	if _, err := s.find(t, alice, basic(`EXAMPLE\alice`, "wrong horse"), false); !errors.Is(err, autodiscover.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	// It is nobody else's concern.
	if endpoint, err := s.findBob(t); err != nil || endpoint != "mail" {
		t.Errorf("Bob got %q, %v", endpoint, err)
	}
}
