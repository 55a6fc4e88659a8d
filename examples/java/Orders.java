import java.io.IOException;
import java.io.StringReader;
import java.io.StringWriter;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;

/**
 * 本店的订单，每单一个 properties 文件。换成数据库时只需重写这个类，写法见 README.md。
 *
 * <pre>
 * line.A-1=1900000001:600     子单号 = 商户号:应收，分（整数，不用浮点数）
 * paid=false
 * shipments=0
 * events=&lt;Webhook-Id&gt; …
 * </pre>
 *
 * 锁只在本进程内有效：收通知的进程只能有一个，多个进程请用数据库。
 */
final class Orders {
    /** 同一笔订单的业务处理；抛异常则什么都不记，网关会再次投递。 */
    interface Act {
        void on(Properties order) throws IOException;
    }

    private final Path dir;

    Orders(Path dir) {
        this.dir = dir;
    }

    /** 先登记再下单：回调可能比下单接口的应答更早到达。 */
    synchronized void create(String number, Map<String, String> lines) throws IOException {
        if (Files.exists(path(number))) {
            if (!lines(read(number)).equals(lines)) {
                throw new IOException("this number is in use by another order");
            }
            return;
        }
        Properties order = new Properties();
        for (Map.Entry<String, String> line : lines.entrySet()) {
            order.setProperty("line." + line.getKey(), line.getValue());
        }
        order.setProperty("paid", "false");
        order.setProperty("shipments", "0");
        order.setProperty("events", "");
        write(number, order);
    }

    /**
     * 每个 Webhook-Id 只处理一次：act 改好的订单与 Webhook-Id 一起落盘，要么都在，要么都不在。
     *
     * @return 本次是否处理；false 表示以前处理过
     */
    synchronized boolean once(String number, String webhookId, Act act) throws IOException {
        Properties order = read(number);
        Set<String> events = new HashSet<>(Arrays.asList(order.getProperty("events").split(" ")));
        if (events.contains(webhookId)) {
            return false;
        }
        act.on(order);
        order.setProperty("events", (order.getProperty("events") + " " + webhookId).trim());
        write(number, order);
        return true;
    }

    /** 订单的各（子）单：子单号 → 商户号:分。 */
    static Map<String, String> lines(Properties order) {
        Map<String, String> lines = new TreeMap<>();
        for (String name : order.stringPropertyNames()) {
            if (name.startsWith("line.")) {
                lines.put(name.substring("line.".length()), order.getProperty(name));
            }
        }
        return lines;
    }

    /** 不像订单号的一律拒绝，它会成为文件名。 */
    private Path path(String number) throws IOException {
        if (number == null || !number.matches("[0-9A-Za-z_*|@-]{2,32}")) {
            throw new IOException("not an order number");
        }
        return dir.resolve(number.replace("*", "%2A").replace("|", "%7C") + ".properties");
    }

    private Properties read(String number) throws IOException {
        if (!Files.exists(path(number))) {
            throw new IOException("no such order");
        }
        Properties order = new Properties();
        order.load(new StringReader(new String(Files.readAllBytes(path(number)), StandardCharsets.UTF_8)));
        return order;
    }

    /** 写临时文件、落盘再改名：进程随时被杀，文件也是旧的或新的，不会是半个。 */
    private void write(String number, Properties order) throws IOException {
        StringWriter text = new StringWriter();
        order.store(text, null);
        Path file = path(number);
        Path fresh = file.resolveSibling(file.getFileName() + ".new");
        try (FileChannel out = FileChannel.open(fresh, StandardOpenOption.CREATE,
                StandardOpenOption.WRITE, StandardOpenOption.TRUNCATE_EXISTING)) {
            ByteBuffer bytes = StandardCharsets.UTF_8.encode(text.toString());
            while (bytes.hasRemaining()) {
                out.write(bytes);
            }
            out.force(true);
        }
        Files.move(fresh, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    }
}
