package caddymodule

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-wechatpay/caddy-wechatpay/storage"
)

const (
	metricsNamespace = "caddy"
	metricsSubsystem = "wechatpay"
)

// collectors are made once per process and registered anew in each
// configuration's registry, so that counters go on counting across reloads.
// Every label takes its values from a closed set: merchant block names, kinds,
// outcomes and results; never an order, a person or a URL.
var collectors = struct {
	notifications        *prometheus.CounterVec
	notificationDuration *prometheus.HistogramVec
	deliveries           *prometheus.CounterVec
	deliveryDuration     *prometheus.HistogramVec
	breakerOpen          *prometheus.GaugeVec
	idConflicts          *prometheus.CounterVec
	appidUnlisted        *prometheus.CounterVec
	eventsDropped        prometheus.Counter
	calls                *prometheus.CounterVec
	callDuration         *prometheus.HistogramVec
	refusals             *prometheus.CounterVec
	certificates         *prometheus.CounterVec
	unverified           *prometheus.CounterVec
	failovers            *prometheus.CounterVec
	contradictions       *prometheus.CounterVec
	work                 *prometheus.CounterVec
}{
	notifications: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "notifications_total",
		Help: "Callbacks answered, by what came of them.",
	}, []string{"merchant", "kind", "outcome"}),
	notificationDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name:    "notification_duration_seconds",
		Help:    "Time from a callback's arrival to its answer; WeChat waits 5 s.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 4.5},
	}, []string{"merchant", "outcome"}),
	deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "deliveries_total",
		Help: "Delivery attempts, by result.",
	}, []string{"merchant", "kind", "result"}),
	deliveryDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name:    "delivery_duration_seconds",
		Help:    "Time of one delivery attempt.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"merchant", "result"}),
	breakerOpen: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "breaker_open",
		Help: "1 while a route's deliveries are held because its backend is down.",
	}, []string{"route"}),
	idConflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "notification_id_conflicts_total",
		Help: "Notification ids that came with two business keys; both were kept.",
	}, []string{"merchant", "kind"}),
	appidUnlisted: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "appid_unlisted_total",
		Help: "Notifications of unknown orders whose appid is not among the merchant's.",
	}, []string{"merchant", "kind"}),
	eventsDropped: prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "events_dropped_total",
		Help: "Caddy events not emitted because their handlers were too slow.",
	}),
	calls: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "calls_total",
		Help: "Calls to WeChat Pay, by operation group and outcome.",
	}, []string{"merchant", "group", "outcome"}),
	callDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name:    "call_duration_seconds",
		Help:    "Time of one call to WeChat Pay.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"merchant", "group"}),
	refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "refusals_total",
		Help: "API requests the gateway refused itself, by rule.",
	}, []string{"merchant", "rule"}),
	certificates: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "key_refreshes_total",
		Help: "Refreshes of platform certificates or sandbox keys, by result.",
	}, []string{"merchant", "result"}),
	unverified: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "answers_unverified_total",
		Help: "Answers of WeChat Pay whose signature does not verify, probes apart.",
	}, []string{"merchant", "kind"}),
	failovers: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "failovers_total",
		Help: "Calls that needed a backup host.",
	}, []string{"merchant"}),
	contradictions: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "ledger_contradictions_total",
		Help: "Verified answers that contradict the ledger about an order's money.",
	}, []string{"merchant"}),
	work: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: metricsNamespace, Subsystem: metricsSubsystem,
		Name: "work_total",
		Help: "Work of the agenda (queries, closes), by kind and result.",
	}, []string{"merchant", "kind", "result"}),
}

// registerMetrics puts the process's collectors into a configuration's registry.
func registerMetrics(reg *prometheus.Registry, own ...prometheus.Collector) error {
	c := &collectors
	all := append([]prometheus.Collector{
		c.notifications, c.notificationDuration, c.deliveries, c.deliveryDuration,
		c.breakerOpen, c.idConflicts, c.appidUnlisted, c.eventsDropped,
		c.calls, c.callDuration, c.refusals, c.certificates,
		c.unverified, c.failovers, c.contradictions, c.work,
	}, own...)
	for _, one := range all {
		var already prometheus.AlreadyRegisteredError
		if err := reg.Register(one); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// inboxCollector reads the store's own counts when metrics are scraped.
type inboxCollector struct {
	stats func(context.Context) (storage.Stats, error)
	now   func() time.Time
}

var (
	inboxDesc = prometheus.NewDesc(
		prometheus.BuildFQName(metricsNamespace, metricsSubsystem, "inbox"),
		"Notifications in the inbox that are not final, by state.", []string{"state"}, nil)
	oldestDesc = prometheus.NewDesc(
		prometheus.BuildFQName(metricsNamespace, metricsSubsystem, "oldest_pending_seconds"),
		"Age of the oldest undelivered notification; 0 when there is none.", nil, nil)
)

// Describe names the two gauges.
func (c *inboxCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- inboxDesc
	ch <- oldestDesc
}

// Collect reads the store; a store that cannot be read gives no sample.
func (c *inboxCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	st, err := c.stats(ctx)
	if err != nil {
		return
	}
	gauge := func(v int64, state string) {
		ch <- prometheus.MustNewConstMetric(inboxDesc, prometheus.GaugeValue, float64(v), state)
	}
	gauge(st.Pending, "pending")
	gauge(st.Leased, "leased")
	gauge(st.Parked, "parked")
	gauge(st.Dead, "dead")
	var age float64
	if !st.OldestPending.IsZero() {
		age = max(0, c.now().Sub(st.OldestPending).Seconds())
	}
	ch <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, age)
}

var _ prometheus.Collector = (*inboxCollector)(nil)
